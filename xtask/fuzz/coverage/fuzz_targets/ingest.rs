#![no_main]

downbeat_coverage_fuzz::fuzz!("ingest");
