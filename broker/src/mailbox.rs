//! The bounded mailbox of a worker: other threads put messages in, the worker takes them out.
//!
//! A worker that spins sees a message at once; one that is parked is woken through a socket pair,
//! because its runtime has no wakers that may cross threads.

use crossbeam_queue::{ArrayQueue, SegQueue};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// Messages that may wait. A full mailbox refuses: the sender says "busy" to whoever asked.
const CAPACITY: usize = 16 << 10;

/// A mailbox for messages of type `M`.
#[derive(Debug)]
pub(crate) struct Mailbox<M> {
    queue: ArrayQueue<M>,
    /// Answers to what the owner asked for: as many as it asked, so they need no other bound.
    answers: SegQueue<M>,
    parked: AtomicBool,
    bell: UnixStream,
}

impl<M> Mailbox<M> {
    /// A mailbox and the end of the bell on which its owner waits while it is parked.
    pub(crate) fn new() -> io::Result<(Self, UnixStream)> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let queue = ArrayQueue::new(CAPACITY);
        Ok((
            Self {
                queue,
                answers: SegQueue::new(),
                parked: AtomicBool::new(false),
                bell,
            },
            ear,
        ))
    }

    /// Puts a message in, or gives it back if the mailbox is full.
    pub(crate) fn send(&self, message: M) -> Result<(), M> {
        self.queue.push(message)?;
        self.ring();
        Ok(())
    }

    /// Puts in what the owner has asked for. Never waits: workers answer one another with it.
    pub(crate) fn answer(&self, message: M) {
        self.answers.push(message);
        self.ring();
    }

    fn ring(&self) {
        // SeqCst on both sides: either the owner sees the message, or this sees that it is parked.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::SeqCst) {
            // A full socket buffer means that it is ringing already.
            let _ = (&self.bell).write(&[1]);
        }
    }

    /// Puts in a message that must not get lost: waits while the mailbox is full. Not for workers.
    pub(crate) fn send_waiting(&self, mut message: M) {
        while let Err(back) = self.send(message) {
            message = back;
            std::thread::park_timeout(std::time::Duration::from_micros(100));
        }
    }

    /// Takes the oldest message, answers first.
    pub(crate) fn take(&self) -> Option<M> {
        self.answers.pop().or_else(|| self.queue.pop())
    }

    /// Announces that the owner is about to wait on the bell. Returns `false` if there is a message:
    /// then it must not wait.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.queue.is_empty() && self.answers.is_empty() {
            return true;
        }
        self.parked.store(false, Ordering::SeqCst);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::sync::Arc;

    #[test]
    fn a_parked_owner_is_rung_once_and_a_full_box_refuses() {
        let (mailbox, mut ear) = Mailbox::new().unwrap();
        let mailbox = Arc::new(mailbox);
        assert!(mailbox.park());
        let sender = mailbox.clone();
        let thread = std::thread::spawn(move || sender.send(7).unwrap());
        let mut rung = [0];
        ear.read_exact(&mut rung).unwrap();
        thread.join().unwrap();
        assert_eq!(mailbox.take(), Some(7));
        for n in 0..CAPACITY {
            mailbox.send(n).unwrap();
        }
        assert_eq!(mailbox.send(1), Err(1));
        mailbox.answer(77);
        assert_eq!(mailbox.take(), Some(77), "an answer needs no room");
        assert!(!mailbox.park(), "nobody parks on a full box");
    }
}
