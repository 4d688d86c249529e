//! A command, from whoever asks to the leader and back.

use super::Proposal;
use super::file::encode;
use super::member::Member;
use super::peers::{PeerAnswer, PeerError, PeerRequest, Proposed};
use flowstone_core::catalog::{Command, Event};
use flowstone_wire::{ErrorCode, Failure, NodeId};
use openraft::error::{ClientWriteError, RaftError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// So long a command is tried.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Largest proposal, in bytes.
pub(super) const PROPOSAL_BYTES_MAX: usize = 1 << 20;
/// A pause before it is tried again, where nothing tells when.
const PAUSE: Duration = Duration::from_millis(50);

impl Member {
    /// Has a command agreed on and applied, here, too: who reads the catalog then sees what it did.
    ///
    /// It is tried again, under the same id, until the deadline: so it is applied once, however often
    /// leaders change meanwhile.
    ///
    /// # Errors
    /// What is wrong with the command; [`ErrorCode::CatalogUnavailable`] if nobody took it;
    /// [`ErrorCode::Timeout`] if it is not known whether somebody did; [`ErrorCode::DiskFull`].
    pub(crate) async fn apply(&self, id: u128, command: Command) -> Result<Event, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let proposal = Proposal { id, command };
        let mut was_taken = false;
        let mut hint = None;
        while Instant::now() < deadline {
            let leader = hint.take().or_else(|| self.leader());
            let proposed = match leader {
                Some(leader) if leader != self.me => {
                    self.propose_to(leader, &proposal, deadline, &mut was_taken)
                        .await
                }
                _ => self.propose(&proposal, deadline, &mut was_taken).await,
            };
            match proposed {
                Some(Proposed::Applied { index, outcome }) => {
                    self.applied(index, deadline).await;
                    return outcome.unwrap_or_else(|| Err(no_answer()));
                }
                Some(Proposed::Failed(failure)) => return Err(failure),
                Some(Proposed::NotLeader { leader }) if leader.is_some_and(|l| l != self.me) => {
                    hint = leader;
                }
                _ => {}
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + PAUSE)).await;
        }
        Err(self.gave_up(was_taken))
    }

    fn gave_up(&self, was_taken: bool) -> Failure {
        let leader = self
            .leader()
            .map_or("nobody".into(), |l| format!("node {l}"));
        let voters: Vec<String> = self.voters().iter().map(NodeId::to_string).collect();
        let who = format!(
            "{leader} leads the catalog; its voters are {}",
            voters.join(", ")
        );
        if was_taken {
            let what = format!(
                "it is not known whether the change was made: {who}; look before trying again"
            );
            return Failure::new(ErrorCode::Timeout, what);
        }
        let what = format!(
            "no majority of voters took the change: {who}; see that they run and reach each other"
        );
        Failure::new(ErrorCode::CatalogUnavailable, what)
    }

    /// Waits until an entry is applied here.
    async fn applied(&self, index: u64, deadline: Instant) {
        let mut applied = self.shown.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        // A node that is cut off sees it later.
        let _ = timeout_at(deadline, reached).await;
    }

    /// Proposes to the raft of this node. `was_taken` is set if it may have been, and nobody knows.
    pub(super) async fn propose(
        &self,
        proposal: &Proposal,
        deadline: Instant,
        was_taken: &mut bool,
    ) -> Option<Proposed> {
        let bytes = encode(proposal).len();
        if bytes > PROPOSAL_BYTES_MAX {
            let what = format!("a change of {bytes} bytes is over {PROPOSAL_BYTES_MAX}");
            return Some(Proposed::Failed(Failure::new(ErrorCode::TooLarge, what)));
        }
        if !self.file.has_room() {
            let what = "the disk is full, and so is the room kept for the catalog; make room";
            return Some(Proposed::Failed(Failure::new(ErrorCode::DiskFull, what)));
        }
        let led = self.leads();
        let raft = self.raft();
        let written = timeout_at(deadline, raft.client_write(proposal.clone())).await;
        let Ok(written) = written else {
            *was_taken |= led;
            return None;
        };
        match written {
            Ok(done) => Some(Proposed::Applied {
                index: done.log_id.index,
                outcome: done.data,
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                *was_taken |= led;
                let leader = to.leader_id.and_then(|l| u32::try_from(l).ok());
                let leader = leader.map(NodeId);
                Some(Proposed::NotLeader { leader })
            }
            Err(RaftError::APIError(e)) => Some(internal(&e)),
            Err(RaftError::Fatal(e)) => Some(self.after_failure(proposal, &e.to_string()).await),
        }
    }

    /// The disk has failed: begins again from what is stored, and looks what became of a proposal.
    async fn after_failure(&self, proposal: &Proposal, why: &str) -> Proposed {
        tracing::error!("the catalog could not be stored: {why}");
        let again = self.begin_again().await;
        let index = *self.shown.applied.borrow();
        if let Some(outcome) = self.shown.outcome(proposal.id) {
            let outcome = Some(outcome);
            return Proposed::Applied { index, outcome };
        }
        let code = if self.file.has_room() && again.is_ok() {
            ErrorCode::Internal
        } else {
            ErrorCode::DiskFull
        };
        let what = format!("the catalog could not be stored: {why}");
        Proposed::Failed(Failure::new(code, what))
    }

    /// Proposes to another node.
    async fn propose_to(
        &self,
        leader: NodeId,
        proposal: &Proposal,
        deadline: Instant,
        was_taken: &mut bool,
    ) -> Option<Proposed> {
        let request = PeerRequest::Propose(proposal.clone());
        match timeout_at(deadline, self.ways.call(leader, request)).await {
            Ok(Ok(PeerAnswer::Proposed(proposed))) => Some(proposed),
            Ok(Ok(PeerAnswer::Refused(failure))) => Some(Proposed::Failed(failure)),
            Ok(Err(PeerError::Unreachable { .. })) => None,
            Ok(Ok(_) | Err(PeerError::Lost { .. })) | Err(_) => {
                *was_taken = true;
                None
            }
        }
    }

    /// Answers a proposal of another node.
    pub(super) async fn take_proposal(&self, proposal: Proposal) -> Proposed {
        let deadline = Instant::now() + DEADLINE;
        let proposed = self.propose(&proposal, deadline, &mut false).await;
        proposed.unwrap_or(Proposed::NotLeader { leader: None })
    }
}

fn internal(e: &dyn std::fmt::Display) -> Proposed {
    Proposed::Failed(Failure::new(ErrorCode::Internal, e.to_string()))
}

/// An entry that is no command was applied in place of one.
fn no_answer() -> Failure {
    Failure::new(ErrorCode::Internal, "the catalog gave no answer")
}
