//! The one binary: see `flowstone --help`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    flowstone::cli::main()
}
