//! A store that is moved away or deleted while the server runs. The server acknowledges nothing
//! until the store is back, and then everything.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::Instant;

use crate::client::write_all;
use crate::copies::Copies;
use crate::data_dir::DataDir;
use crate::kills::Run;
use crate::shortage::{FAILURE, tell_once_a_minute, wait_until};
use crate::truth::Truth;

/// Steps of each author in each part.
const STEPS: usize = 20;

/// Time during which nothing may be acknowledged.
const AWAY: Duration = Duration::from_secs(2);

/// Time limit for all acknowledgements after the store is back.
const RECOVERY: Duration = Duration::from_secs(20);

/// Time limit for the server to notice that the store is gone, while no client writes.
const NOTICE: Duration = Duration::from_secs(5);

/// Moves a store away and back, and deletes it in the end.
pub(crate) async fn run(run: &Run) -> Result<()> {
    let place = DataDir::new(run.kind)?;
    let (data, away) = (place.data(), place.data().with_file_name("away"));
    let truth = Truth::default();
    let program = place.program(&run.binary);
    let (mut server, url, _) = program.start().await?;
    let started = Instant::now();
    write_all(run.seed, &truth, &url, STEPS).await?;

    fs::rename(&data, &away)?;
    let moved = Instant::now();
    wait_until("the server notices", || Ok(server.log()?.contains(FAILURE))).await?;
    let noticed = moved.elapsed();
    ensure!(noticed < NOTICE, "the server noticed only after {noticed:.1?}");
    let log = server.log()?;
    ensure!(log.contains("it was deleted or moved away"), "the log does not say why:\n{log}");
    let acknowledged = truth.sizes().acknowledged;
    let writing = tokio::spawn({
        let (truth, url, seed) = (truth.clone(), url.clone(), run.seed + 1);
        async move { write_all(seed, &truth, &url, STEPS).await }
    });
    tokio::time::sleep(AWAY).await;
    let during = truth.sizes().acknowledged - acknowledged;
    ensure!(during == 0, "{during} transactions are acknowledged while the store is away");
    fs::rename(&away, &data)?;
    let written = tokio::time::timeout(RECOVERY, writing).await;
    written.with_context(|| {
        format!("no acknowledgements after the store is back:\n{:?}", server.log())
    })???;
    tell_once_a_minute(&server, started.elapsed())?;
    let ids = truth.ids();
    server.kill().await?;
    let (mut server, url, _) = program.start().await.context("when the store is back")?;
    Copies::load(&truth, &url, &ids, RECOVERY).await?.check(&ids)?;

    let acknowledged = truth.sizes().acknowledged;
    fs::remove_dir_all(&data)?;
    let writing = write_all(run.seed + 2, &truth, &url, STEPS);
    let written = tokio::time::timeout(AWAY, writing).await;
    ensure!(written.is_err(), "everything is acknowledged into a store that was deleted");
    let during = truth.sizes().acknowledged - acknowledged;
    ensure!(during == 0, "{during} transactions are acknowledged into a store that was deleted");
    server.kill().await?;
    println!(
        "{} moved away: noticed after {noticed:.1?}, works again after it was moved back",
        run.kind
    );
    Ok(())
}
