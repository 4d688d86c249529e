//! The one binary: see `flowstone --help`.
#![forbid(unsafe_code)]

/// A panic ends the process: a thread less would be a broker that only seems to run. The exception is
/// a damaged redb file that is being opened, which is caught and reported.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !flowstone_storage::redb_file::is_opening() {
            print(info);
            std::process::abort();
        }
    }));
}

fn main() -> std::process::ExitCode {
    end_on_panic();
    flowstone::cli::main()
}
