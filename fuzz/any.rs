//! Every target: the name of the program says which.
#![no_main]

use seqlink_fuzz_targets::run;
use tokio::runtime::Builder;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    // A new one for each: no task of the last input is left.
    runtime.expect("a runtime").block_on(run(env!("CARGO_BIN_NAME"), input));
});
