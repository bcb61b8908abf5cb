//! Replays what the fuzzer starts from and what it has found: `fuzz/corpus`, a folder for each target.

use std::fs;
use std::panic;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seqlink_fuzz_targets::{TARGETS, run};
use tokio::runtime::Builder;

/// The inputs of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn no_input_of_a_corpus_is_a_finding() {
    // A task's panic is caught by its runtime, and counts too.
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, usual) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        counted.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 5, "{target} has {} seeds", inputs.len());
        for (name, input) in inputs {
            let mut runtime = Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            let ran = panic::catch_unwind(panic::AssertUnwindSafe(|| {
                runtime.block_on(run(target, &input));
            }));
            drop(runtime);
            assert!(ran.is_ok() && panics.load(Ordering::Relaxed) == 0, "a finding: {name}");
        }
    }
}

/// A target that the fuzzer does not know would be replayed and never run.
#[test]
fn each_target_is_a_program_of_the_fuzzer() {
    let manifest = include_str!("../../Cargo.toml");
    for target in TARGETS {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
