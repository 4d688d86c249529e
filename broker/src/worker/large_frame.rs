//! Large frames: peers that send them share a bounded room, so that unfinished ones cannot fill memory.

use super::connection::Connection;
use super::run::Worker;
use flowstone_wire::limits::FRAME_BYTES_MAX;
use std::rc::Rc;

/// Large frames that are read at the same time on a worker, in bytes; others wait for their turn.
const LARGE_FRAMES_BYTES_MAX: usize = 96 << 20;

const _: () = assert!(LARGE_FRAMES_BYTES_MAX >= 2 * FRAME_BYTES_MAX);

/// The right to read a large frame. Dropping it lets others read theirs.
pub(super) struct LargeFrame {
    worker: Rc<Worker>,
    bytes: usize,
}

impl LargeFrame {
    /// Waits for its turn. `None` when the connection was closed meanwhile.
    pub(super) async fn wait(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        bytes: usize,
    ) -> Option<Self> {
        while worker.large_frames_bytes.get() + bytes > LARGE_FRAMES_BYTES_MAX {
            if connection.closed.get() {
                return None;
            }
            worker.waits_for_large.set(true);
            connection.room.wait().await;
        }
        let all = &worker.large_frames_bytes;
        all.set(all.get() + bytes);
        let worker = worker.clone();
        Some(Self { worker, bytes })
    }
}

impl Drop for LargeFrame {
    fn drop(&mut self) {
        let all = &self.worker.large_frames_bytes;
        all.set(all.get() - self.bytes);
        if self.worker.waits_for_large.replace(false) {
            let connections = self.worker.connections.borrow();
            connections.values().for_each(|c| c.look_again());
        }
    }
}
