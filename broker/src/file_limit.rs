//! File descriptors: half of them are for the doors, so that peers never take those of the log.
//!
//! A roll, a sync of a directory and a settled segment need descriptors, and a sync that fails ends
//! its shard: a crowd at the doors must not be able to bring that about.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are of no use here.
const FILES_MAX: u64 = 1 << 20;
/// A connection of the native door is a socket and a second handle of it.
const FILES_PER_NATIVE: usize = 2;

/// Asks for as many as this process may have.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    if limit.current.is_some_and(|current| current < most) {
        let raised = Rlimit {
            current: Some(most),
            maximum: limit.maximum,
        };
        if let Err(e) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!("the limit of open files stays at {:?}: {e}", limit.current);
        }
    }
}

/// Connections that the native door and the HTTP door may have, if they want so many.
pub(crate) fn doors(native: usize, http: usize) -> (usize, usize) {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MAX);
    share(
        usize::try_from(files).unwrap_or(usize::MAX) / 2,
        native,
        http,
    )
}

/// Shares out descriptors: two thirds to the native door, where more is asked for than there is.
fn share(files: usize, native: usize, http: usize) -> (usize, usize) {
    let wanted = native.saturating_mul(FILES_PER_NATIVE).saturating_add(http);
    if wanted <= files {
        return (native, http);
    }
    let native = native.min(files / 3);
    (
        native.max(1),
        http.min(files - native * FILES_PER_NATIVE).max(1),
    )
}

/// Settled segments that a worker of so many may keep open.
pub(crate) fn settled(workers: usize, wanted: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES_MAX);
    let share = usize::try_from(files).unwrap_or(usize::MAX) / 8 / workers.max(1);
    wanted.min(share).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_never_have_more_than_their_share() {
        assert_eq!(share(4096, 1024, 1024), (1024, 1024));
        for files in [16, 128, 512, 3000] {
            let (native, http) = share(files, 1024, 1024);
            assert!(native * FILES_PER_NATIVE + http <= files);
            assert!(native > 1 && http > 1);
        }
    }
}
