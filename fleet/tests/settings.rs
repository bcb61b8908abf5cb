//! What the program says of itself.

mod programs;

use programs::{path, run};

#[test]
fn the_program_completes_its_words_and_writes_its_manual() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = String::from_utf8(run("completions", &[shell]).stdout).unwrap();
        assert!(script.contains("session-timeout") && script.contains("control"), "{shell}");
    }
    let folder = path("manual");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    assert!(run("man", &[&folder]).status.success());
    for (page, word) in
        [("seqlink", "master"), ("seqlink-master", "heartbeat"), ("seqlink-control-play", "user")]
    {
        let text = std::fs::read_to_string(format!("{folder}/{page}.1")).unwrap();
        assert!(text.contains(word), "{page}");
    }
    assert_eq!(run("man", &["/nonexistent"]).status.code(), Some(1));
}
