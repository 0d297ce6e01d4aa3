//! The program: parse, run, exit code. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    postrider::cli::run()
}
