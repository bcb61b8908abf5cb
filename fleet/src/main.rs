//! A master, its slaves, and a control, in one program: see `seqlink --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    seqlink_fleet::main()
}
