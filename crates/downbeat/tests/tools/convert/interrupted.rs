//! Conversions that end early, and are run again.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use downbeat_core::delete;
use downbeat_storage::Write;

use super::{Kept, NATIVE, files, make};
use crate::generate::{MADE_AT, Person, Plan, append, fill};
use crate::given::{Cast, Place, Said};

/// A store that takes some time to convert, with every kind of content.
fn make_large(place: &Place, name: &str) -> Cast {
    let plan = Plan { seed: 3, accounts: 5, co_values: 2_000, transactions: 5, changes_len: 300 };
    let cast = make(place, name);
    let store = place.open(name);
    fill(&store, place.runtime.handle(), &plan, |_| {});
    place.runtime.block_on(store.close()).unwrap();
    cast
}

/// Runs a conversion, and kills it after some time. Returns whether it was killed.
fn run_for(place: &Place, args: &[&str], time: Duration) -> bool {
    let mut run = place.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < time && run.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    let killed = run.try_wait().unwrap().is_none();
    if killed {
        run.kill().unwrap();
    }
    let said = Said::of(&run.wait_with_output().unwrap());
    assert!(killed || said.code == 0, "{}", said.err);
    killed
}

/// Runs the conversion on a disk without room for large files.
fn run_on_full_disk(place: &Place, args: &[&str]) -> Said {
    // In units of 512 bytes or 1 KiB. Sources are longer than that, and are opened all the same.
    let script = r#"trap '' XFSZ; ulimit -f 1500; exec "$0" "$@""#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_downbeat")]).args(args);
    command.current_dir(place.path("")).stdin(Stdio::null());
    let said = Said::of(&command.output().unwrap());
    assert_eq!(said.code, 1, "{}", said.err);
    let unfinished = format!("{} is not complete", args[args.len() - 1]);
    assert!(said.err.contains(&unfinished), "{}", said.err);
    said
}

#[test]
fn a_conversion_that_is_killed_at_any_moment_goes_on_where_it_was() {
    let place = Place::new();
    make_large(&place, "sled:from");
    for (from, to, format) in [
        ("sled:from", "sqlite:native.db", "native"),
        ("sqlite:native.db", "sqlite:reference.db", "reference"),
        ("sqlite:reference.db", "sled:to", ""),
    ] {
        let flags = ["--storage-format", format];
        let flags = if format.is_empty() { &[][..] } else { &flags };
        let args = [&["convert", "-q"], flags, &[from, to]].concat();
        let name = to.split_once(':').unwrap().1;
        let path = place.path(name);
        let (mut time, mut kills) = (Duration::from_millis(15), 0);
        while run_for(&place, &args, time) {
            let beside = |suffix| path.with_file_name(format!("{name}{suffix}"));
            if path.exists() {
                assert!(!beside(".unfinished").exists(), "it has its name when it is complete");
                if !beside(".conversion").exists() {
                    // Killed at the very end, with nothing left to do.
                    break;
                }
            }
            kills += 1;
            time = time.mul_f64(1.3);
        }
        assert!(kills > 5, "{to} was complete after {kills} kills");
        assert_eq!(Kept::of(&place, to), Kept::of(&place, from), "{to}");
    }
    let mut left = files(&place, "");
    // SQLite sometimes leaves an empty log of a file that was read.
    left.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    let expected = ["from", "native.db", "native.db-reserve", "reference.db"];
    assert_eq!(left, [&expected[..], &["reference.db-reserve", "to"]].concat());
}

#[test]
fn a_full_disk_loses_nothing_and_the_conversion_goes_on_when_there_is_room() {
    let place = Place::new();
    make_large(&place, "sqlite:from.db");
    let kept = Kept::of(&place, "sqlite:from.db");
    for (flags, to) in
        [(&NATIVE[..], "sqlite:native.db"), (&["convert", "-q"], "sqlite:reference.db")]
    {
        let args = [flags, &["sqlite:from.db", to]].concat();
        for _ in 0..2 {
            run_on_full_disk(&place, &args);
        }
        assert!(!place.path(to.split_once(':').unwrap().1).exists());
        place.run_well(&args);
        assert_eq!(Kept::of(&place, to), kept, "{to}");
    }
}

#[test]
fn an_unfinished_target_is_no_store_yet() {
    let place = Place::new();
    make_large(&place, "sqlite:from.db");
    let args = [&NATIVE[..], &["sqlite:from.db", "sqlite:to.db"]].concat();
    run_on_full_disk(&place, &args);
    let said = place.run(&["serve", "--port", "0", "--storage", "sqlite:to.db"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("to.db is the target of an unfinished conversion"), "{}", said.err);
    for args in [&["import", "sqlite:from.db", "sqlite:to.db"][..], &["stats", "sqlite:to.db"]] {
        assert_eq!(place.run(args).code, 1, "{args:?}");
    }
    assert!(!place.path("to.db").exists());
    // Another conversion is refused as well.
    for other in [
        &["convert", "sqlite:from.db", "sqlite:to.db"][..],
        &[&NATIVE[..], &["--verify", "sqlite:from.db", "sqlite:to.db"]].concat(),
    ] {
        let said = place.run(other);
        assert_eq!(said.code, 1, "{other:?}");
        assert!(said.err.contains("is the target of another conversion"), "{}", said.err);
    }
    // A file that was made under its name meanwhile stays.
    fs::write(place.path("to.db"), "mine").unwrap();
    let said = place.run(&args);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("was made while its conversion was unfinished"), "{}", said.err);
    fs::remove_file(place.path("to.db")).unwrap();
    let said = place.run_well(&args).json();
    assert!(said["unchangedCoValues"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(Kept::of(&place, "sqlite:to.db"), Kept::of(&place, "sqlite:from.db"));
}

#[test]
fn only_one_process_works_on_a_target() {
    let place = Place::new();
    make_large(&place, "sqlite:from.db");
    let args = [&NATIVE[..], &["sqlite:from.db", "sqlite:to.db"]].concat();
    run_on_full_disk(&place, &args);
    let record = fs::File::open(place.path("to.db.conversion")).unwrap();
    record.lock().unwrap();
    let said = place.run(&args);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("another process is converting to to.db"), "{}", said.err);
    drop(record);
    let store = place.open("sqlite:to.db.unfinished");
    let said = place.run(&args);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("stop that first"), "{}", said.err);
    place.runtime.block_on(store.close()).unwrap();
    place.run_well(&args);
}

#[test]
fn a_kill_in_the_last_steps_is_made_good() {
    let place = Place::new();
    make_large(&place, "sqlite:from.db");
    let args = [&NATIVE[..], &["sqlite:from.db", "sqlite:to.db"]].concat();
    run_on_full_disk(&place, &args);
    let record = fs::read_to_string(place.path("to.db.conversion")).unwrap();
    place.run_well(&args);
    let kept = Kept::of(&place, "sqlite:from.db");
    for (record, renamed) in [
        // Before and after the target got its name.
        (format!("{record}{{\"problems\":0}}\n"), false),
        (format!("{record}{{\"problems\":0}}\n"), true),
        // Before the record was complete.
        (format!("{record}{{\"prob"), false),
        (record.clone(), false),
    ] {
        if !renamed {
            fs::rename(place.path("to.db"), place.path("to.db.unfinished")).unwrap();
        }
        fs::write(place.path("to.db.conversion"), &record).unwrap();
        place.run_well(&args);
        assert_eq!(Kept::of(&place, "sqlite:to.db"), kept, "{record}");
        assert!(!place.path("to.db.conversion").exists());
        assert!(!place.path("to.db.unfinished").exists());
    }
    // Problems that the interrupted command listed still count.
    fs::write(place.path("to.db.conversion"), format!("{record}{{\"problems\":2}}\n")).unwrap();
    let said = place.run(&args);
    assert_eq!(said.code, 3, "{}", said.err);
    assert_eq!(said.json()["problems"], 2);
}

#[test]
fn what_changes_in_the_source_meanwhile_is_converted_as_well() {
    let place = Place::new();
    let cast = make_large(&place, "sled:from");
    let args = [&NATIVE[..], &["sled:from", "sqlite:to.db"]].concat();
    // The target has everything so far.
    place.run_well(&args);
    fs::rename(place.path("to.db"), place.path("to.db.unfinished")).unwrap();
    let store = place.open("sled:from");
    let mut log = cast.alice.log();
    log.write_private(3, 50);
    log.write_private(1, 50);
    let more = log.write_private(2, 70);
    let session = {
        let marker = delete::transaction(cast.long, MADE_AT + 5);
        cast.alice.delete_log().write(vec![marker])
    };
    let writes = vec![
        Write::Append { id: cast.small, header: None, sessions: vec![more] },
        Write::Tombstone { id: cast.long, session },
    ];
    append(&store, place.runtime.handle(), writes);
    append(&store, place.runtime.handle(), Vec::from(Person::new(7, 50).writes()));
    let notes = place.runtime.block_on(store.unsynced(None, 1)).unwrap();
    let synced = |entry| downbeat_storage::UnsyncedUpdate { entry, synced: true };
    place.runtime.block_on(async {
        store.track_unsynced(notes.into_iter().map(synced).collect()).await.unwrap();
        while store.erase(cast.long).await.unwrap().more {}
        store.close().await.unwrap();
    });
    fs::write(place.path("to.db.conversion"), record(&place)).unwrap();
    let said = place.run_well(&args).json();
    assert_eq!(said["newCoValues"], 2, "{said}");
    assert_eq!(Kept::of(&place, "sqlite:to.db"), Kept::of(&place, "sled:from"));
}

/// The record of the conversion of `sled:from` to a native file.
fn record(place: &Place) -> String {
    let from = place.path("from").canonicalize().unwrap();
    let from = format!("sled:{}", from.display());
    let job = serde_json::json!({
        "from": from, "to": "sqlite", "storageFormat": "native", "verify": false,
    });
    format!("{job}\n")
}

#[test]
fn a_target_that_does_not_match_the_source_is_refused() {
    let place = Place::new();
    let cast = make(&place, "sled:from");
    let args = [&NATIVE[..], &["sled:from", "sqlite:to.db"]].concat();
    place.run_well(&args);
    let kept = fs::read(place.path("to.db")).unwrap();
    let again = |change: &dyn Fn(&str)| {
        fs::write(place.path("to.db.unfinished"), &kept).unwrap();
        change("sqlite:to.db.unfinished");
        fs::write(place.path("to.db.conversion"), record(&place)).unwrap();
        let said = place.run(&args);
        assert_eq!(said.code, 1, "{}", said.out);
        assert!(said.err.contains("the target does not match the source"), "{}", said.err);
        assert!(!place.path("to.db").exists());
        said
    };
    fs::remove_file(place.path("to.db")).unwrap();
    let extend = |name: &str, writes: Vec<Write>| {
        let store = place.open(name);
        append(&store, place.runtime.handle(), writes);
        place.runtime.block_on(store.close()).unwrap();
    };
    // More transactions, and a CoValue, that the source lacks.
    let said = again(&|name| {
        let mut log = cast.alice.log_number(77);
        let sessions = vec![log.write_private(1, 50)];
        extend(name, vec![Write::Append { id: cast.empty, header: None, sessions }]);
    });
    assert!(said.err.contains(cast.empty.as_str()), "{}", said.err);
    again(&|name| extend(name, Vec::from(Person::new(7, 50).writes())));
    // Other transactions than those of the source, which has got more meanwhile.
    let store = place.open("sled:from");
    let mut log = cast.alice.log_number(5);
    let first = log.write_private(1, 50);
    let second = log.write_private(1, 50);
    let write = |sessions| Write::Append { id: cast.empty, header: None, sessions };
    append(&store, place.runtime.handle(), vec![write(vec![first, second])]);
    place.runtime.block_on(store.close()).unwrap();
    drop(store);
    let said = again(&|name| {
        let mut log = cast.alice.log_number(5);
        extend(name, vec![write(vec![log.write_private(1, 60)])]);
    });
    assert!(said.err.contains("the first 1 transactions differ"), "{}", said.err);
}
