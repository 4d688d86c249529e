//! The one binary: see `flowstone --help`.
#![forbid(unsafe_code)]

use flowstone_processor::contained::{self, Containment};

/// A panic ends the process: a thread less would be a broker that only seems to run. The exceptions are
/// caught: a damaged redb file that is being opened, and what functions of SQL do over the rows of others.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match contained::current() {
        _ if flowstone_storage::redb_file::is_opening() => {}
        Containment::Caller => {}
        Containment::Runtime => print(info),
        Containment::None => {
            print(info);
            std::process::abort();
        }
    }));
}

fn main() -> std::process::ExitCode {
    end_on_panic();
    flowstone::cli::main()
}
