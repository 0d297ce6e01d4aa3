//! The entry point of the binary. All code, including the exit code, is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    postrider::cli::run()
}
