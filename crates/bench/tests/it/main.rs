//! Small runs of all workloads against the null server: operations, checks of answers, and sizes.

use downbeat_bench::{
    BenchError, FanOut, Fetch, LiveEdits, LongAppend, LongLoad, ManySessions, NullServer, Report,
    ServerProcess, Storm, StreamDown, StreamUp, Target, UpToDate, Upload,
};

/// Starts a null server that runs until the test ends.
async fn target() -> Target {
    let server = NullServer::bind("127.0.0.1:0").await.expect("the loopback has a free port");
    let url = server.url();
    tokio::spawn(server.run());
    let process = ServerProcess::new(std::process::id()).expect("this process can be read");
    Target { process: Some(process), ..Target::new(&url) }
}

fn assert_done(report: &Report, operations: u64) {
    assert_eq!(report.operations, operations, "{report}");
    assert!(report.per_second > 0.0 && report.sent_bytes > 0, "{report}");
    assert!(report.latency.is_some_and(|latency| latency.p50 <= latency.max), "{report}");
    assert!(report.server.is_some_and(|server| server.resident_after > 0), "{report}");
}

#[tokio::test]
async fn what_was_uploaded_is_fetched_and_up_to_date() -> Result<(), BenchError> {
    let target = target().await;
    let upload = Upload { co_values: 50, transactions: 3, ..Upload::default() };
    assert_done(&upload.run(&target).await?, 50);
    let fetch = Fetch { co_values: 50, transactions: 3, ..Fetch::default() };
    assert_done(&fetch.run(&target).await?, 50);
    let asked = UpToDate { co_values: 50, transactions: 3, rounds: 2, ..UpToDate::default() };
    assert_done(&asked.run(&target).await?, 100);
    Ok(())
}

#[tokio::test]
async fn clients_that_come_at_once_are_counted_whether_they_get_in_or_not() -> Result<(), BenchError>
{
    let report = Storm { clients: 100 }.run(&target().await).await?;
    assert_eq!((report.operations, report.failed), (100, 0), "{report}");
    assert!(report.received_bytes > 0 && report.latency.is_some(), "{report}");
    let absent = Target::new("ws://127.0.0.1:9");
    let report = Storm { clients: 3 }.run(&absent).await?;
    assert_eq!((report.operations, report.failed), (0, 3), "{report}");
    assert!(report.first_failure.is_some());
    Ok(())
}

#[tokio::test]
async fn what_was_not_uploaded_is_an_error_and_no_figure() {
    let target = target().await;
    let fetch = Fetch { co_values: 1, transactions: 1, ..Fetch::default() };
    let error = fetch.run(&target).await.unwrap_err();
    assert!(matches!(error, BenchError::Wrong(_)), "{error}");
    let asked = UpToDate { co_values: 1, transactions: 1, ..UpToDate::default() };
    let error = asked.run(&target).await.unwrap_err();
    assert!(matches!(error, BenchError::Wrong(_)), "{error}");
}

#[tokio::test]
async fn other_content_than_was_uploaded_is_an_error() -> Result<(), BenchError> {
    let target = target().await;
    let upload = Upload { co_values: 1, transactions: 2, ..Upload::default() };
    upload.run(&target).await?;
    let fetch = Fetch { co_values: 1, transactions: 3, ..Fetch::default() };
    let fetching = tokio::time::timeout(std::time::Duration::from_millis(300), fetch.run(&target));
    assert!(fetching.await.is_err(), "two transactions passed for three");
    Ok(())
}

#[tokio::test]
async fn edits_are_acknowledged_and_delivered() -> Result<(), BenchError> {
    let target = target().await;
    assert_done(&LiveEdits { writers: 3, edits: 4 }.run(&target).await?, 12);
    assert_done(&FanOut { subscribers: 5, edits: 6 }.run(&target).await?, 30);
    let sessions = ManySessions { sessions: 20, edits: 30, ..ManySessions::default() };
    assert_done(&sessions.run(&target).await?, 30);
    Ok(())
}

#[tokio::test]
async fn long_ones_go_up_and_down() -> Result<(), BenchError> {
    let target = target().await;
    assert_done(&StreamUp { megabytes: 2, window: 4 }.run(&target).await?, 2);
    assert_done(&StreamDown { megabytes: 2, clients: 2 }.run(&target).await?, 4);
    let append = LongAppend { transactions: 105, per_message: 10, window: 4 };
    assert_done(&append.run(&target).await?, 105);
    assert_done(&LongLoad { transactions: 105, per_message: 10 }.run(&target).await?, 105);
    Ok(())
}

#[tokio::test]
async fn sizes_and_addresses_that_make_no_sense_are_refused() {
    let target = target().await;
    let nothing = Upload { co_values: 0, ..Upload::default() };
    assert!(matches!(nothing.run(&target).await, Err(BenchError::Size(_))));
    let no_writers = LiveEdits { writers: 0, edits: 1 };
    assert!(matches!(no_writers.run(&target).await, Err(BenchError::Size(_))));
    let nowhere = Target::new("http://127.0.0.1:1");
    assert!(matches!(Upload::default().run(&nowhere).await, Err(BenchError::Url { .. })));
}
