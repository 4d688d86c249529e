//! Single replicas, step by step: what is said when, and what is not.

use super::*;
use flowstone_wire::{Incarnation, NodeId};

fn member(node: u32) -> Member {
    Member {
        node: NodeId(node),
        incarnation: Incarnation(10 + u64::from(node)),
    }
}

fn config(version: u64, epoch: u32, leader: u32, members: &[u32], previous: &[u32]) -> Config {
    Config {
        version: ConfigVersion(version),
        epoch: Epoch(epoch),
        leader: member(leader),
        members: members.iter().map(|m| member(*m)).collect(),
        learners: Vec::new(),
        previous: previous.iter().map(|m| member(*m)).collect(),
    }
}

fn span(epoch: u32, first: u64, last: u64) -> Span {
    Span {
        epoch: Epoch(epoch),
        first: Lsn(first),
        last: Lsn(last),
        bytes: 100,
    }
}

fn id(epoch: u32, lsn: u64) -> LogId {
    LogId {
        epoch: Epoch(epoch),
        lsn: Lsn(lsn),
    }
}

/// A replica whose outputs are looked at one step at a time.
struct Node {
    replica: Replica,
    now_us: u64,
}

impl Node {
    fn new(me: u32, promise: Option<(u32, u32)>, spans: &[Span], committed: u64) -> Self {
        let promise = promise.map(|(epoch, leader)| Promise {
            epoch: Epoch(epoch),
            leader: member(leader),
        });
        let start = ReplicaStart {
            me: member(me),
            promise,
            base: LogId::default(),
            spans: spans.to_vec(),
            committed: Lsn(committed),
        };
        Self {
            replica: Replica::new(ShardId(1), Limits::default(), start).unwrap(),
            now_us: 1_000,
        }
    }

    /// The outputs of a step, without reports and questions to the catalog.
    fn step(&mut self, input: Input) -> Vec<Output> {
        let all = self.step_whole(input).into_iter();
        all.filter(|o| !matches!(o, Output::Report(_) | Output::AskCatalog(_)))
            .collect()
    }

    fn asks(&mut self, input: Input) -> Vec<Ask> {
        let asked = self.step_whole(input).into_iter().filter_map(|o| match o {
            Output::AskCatalog(asked) => Some(asked.ask),
            _ => None,
        });
        asked.collect()
    }

    fn step_whole(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::default();
        self.replica.step(self.now_us, input, &mut out);
        out.drain().collect()
    }

    fn hear(&mut self, from: u32, epoch: u32, message: Message) -> Vec<Output> {
        let header = Header {
            shard: ShardId(1),
            epoch: Epoch(epoch),
            version: ConfigVersion(0),
            from: member(from),
            to: self.replica.me,
        };
        self.step(Input::Received(Envelope { header, message }))
    }

    /// Has it lead an epoch alone, up to its start being durable.
    fn lead_alone(&mut self, epoch: u32) {
        let next = self.replica.log.end().next().0;
        self.step(Input::Appointed(config(1, epoch, 0, &[0], &[0])));
        self.step(Input::Persisted(Epoch(epoch)));
        self.step(Input::Written(span(epoch, next, next)));
        self.step(Input::Durable(id(epoch, next)));
    }
}

fn follow(starts: &[(u32, u64)]) -> Message {
    let mut epochs = EpochTable::default();
    for (epoch, first) in starts {
        assert!(epochs.push(Epoch(*epoch), Lsn(*first)));
    }
    Message::Follow { epochs, sent_us: 5 }
}

/// The messages among outputs.
fn said(outputs: &[Output]) -> Vec<Message> {
    let messages = outputs.iter().filter_map(|o| match o {
        Output::Send(envelope) => Some(envelope.message.clone()),
        _ => None,
    });
    messages.collect()
}

fn ack(standing: Standing, written: u64, durable: u64, echo_us: u64) -> Message {
    Message::Ack {
        standing,
        written: Lsn(written),
        durable: Lsn(durable),
        echo_us,
    }
}

#[test]
fn one_node_is_a_cluster_of_one() {
    let mut node = Node::new(0, None, &[], 0);
    let promise = Promise {
        epoch: Epoch(1),
        leader: member(0),
    };
    let appointed = Input::Appointed(config(1, 1, 0, &[0], &[]));
    assert_eq!(
        node.step(appointed),
        [Output::Persist(promise)],
        "nothing before that is durable"
    );
    assert_eq!(
        node.step(Input::Persisted(Epoch(1))),
        [Output::Begin(Epoch(1))]
    );
    assert_eq!(node.step(Input::Written(span(1, 1, 1))), []);
    assert_eq!(node.asks(Input::Durable(id(1, 1))), [Ask::Activate]);
    assert_eq!(
        (node.replica.phase(), node.replica.committed()),
        (Phase::Starting, Lsn(0))
    );
    let outputs = node.step(Input::Activated(Epoch(1)));
    assert_eq!(outputs, [Output::Committed(Lsn(1)), Output::LeaderSure]);
    node.step(Input::Written(span(1, 2, 4)));
    assert_eq!(
        node.step(Input::Durable(id(1, 4))),
        [Output::Committed(Lsn(4))]
    );
    assert!(node.replica.is_sure());
}

#[test]
fn a_promise_is_told_when_it_is_durable() {
    let mut node = Node::new(1, Some((1, 0)), &[span(1, 1, 7)], 0);
    let outputs = node.hear(2, 2, Message::Seal);
    assert_eq!(said(&outputs), []);
    assert_eq!(
        said(&node.hear(0, 1, follow(&[(1, 1)]))),
        [Message::Refused],
        "but it binds at once"
    );
    let outputs = node.step(Input::Persisted(Epoch(2)));
    assert_eq!(said(&outputs), [Message::Sealed { end: id(1, 7) }]);
    assert_eq!(
        said(&node.hear(2, 2, Message::Seal)),
        [Message::Sealed { end: id(1, 7) }]
    );
}

#[test]
fn a_follower_is_cut_where_its_log_departs_and_says_nothing_before_that_is_durable() {
    let mut node = Node::new(1, Some((4, 0)), &[span(1, 1, 7), span(2, 8, 9)], 3);
    let outputs = node.hear(0, 4, follow(&[(1, 1), (3, 6), (4, 12)]));
    assert_eq!(outputs, [Output::Cut(Lsn(5))]);
    let more = Message::Append {
        span: Some(span(3, 6, 11)),
        committed: Lsn(11),
        sent_us: 6,
    };
    assert_eq!(
        said(&node.hear(0, 4, more.clone())),
        [ack(Standing::Astray, 0, 0, 6)]
    );
    let outputs = node.step(Input::CutDone(Lsn(5)));
    assert_eq!(said(&outputs), [ack(Standing::Following, 5, 5, 5)]);
    let outputs = node.hear(0, 4, more);
    assert_eq!(outputs[0], Output::Append(span(3, 6, 11)));
    assert_eq!(
        outputs[1],
        Output::Committed(Lsn(5)),
        "only what is durable here"
    );
    assert_eq!(said(&outputs), [ack(Standing::Following, 11, 5, 6)]);
    let outputs = node.step(Input::Durable(id(3, 11)));
    assert_eq!(outputs[0], Output::Committed(Lsn(11)));
}

#[test]
fn an_old_question_does_not_cut_after_a_restart() {
    // It had followed epoch 2 and acknowledged up to 9; the question is from when the epoch began.
    let mut node = Node::new(1, Some((2, 0)), &[span(1, 1, 4), span(2, 5, 9)], 0);
    let outputs = node.hear(0, 2, follow(&[(1, 1), (2, 5)]));
    assert_eq!(said(&outputs), [ack(Standing::Following, 9, 9, 5)]);
    assert_eq!(outputs.len(), 1);
}

#[test]
fn what_is_committed_is_not_cut() {
    let mut node = Node::new(1, Some((4, 0)), &[span(1, 1, 7)], 6);
    let fault = Fault::CutBelowCommitted {
        epoch: Epoch(4),
        committed: Lsn(6),
    };
    assert_eq!(
        node.hear(0, 4, follow(&[(1, 1), (4, 6)])),
        [Output::Fault(fault)]
    );
    assert_eq!(node.replica.phase(), Phase::Idle);
}

#[test]
fn what_is_here_already_is_not_appended_again_and_a_gap_is_told() {
    let mut node = Node::new(1, Some((1, 0)), &[span(1, 1, 4)], 0);
    node.hear(0, 1, follow(&[(1, 1)]));
    let append = |first, last| Message::Append {
        span: Some(span(1, first, last)),
        committed: Lsn(0),
        sent_us: 6,
    };
    assert_eq!(node.hear(0, 1, append(2, 4)).len(), 1);
    assert_eq!(
        node.hear(0, 1, append(3, 6))[0],
        Output::Append(span(1, 5, 6))
    );
    assert_eq!(
        said(&node.hear(0, 1, append(9, 9))),
        [ack(Standing::Following, 6, 4, 6)]
    );
}

#[test]
fn a_leader_that_hears_of_a_higher_epoch_is_none_any_more() {
    let mut node = Node::new(0, None, &[], 0);
    node.lead_alone(3);
    assert_eq!(node.hear(1, 2, Message::Refused), [], "that is an old one");
    assert_eq!(node.hear(1, 4, Message::Refused), [Output::Retire]);
    let late = Input::Written(span(3, 2, 2));
    assert_eq!(node.step(late), [Output::Fault(Fault::BadWrite(Lsn(2)))]);
    assert_eq!(node.replica.phase(), Phase::Stopped);
}

#[test]
fn an_epoch_is_promised_to_one_leader() {
    let mut node = Node::new(1, Some((4, 0)), &[span(1, 1, 7)], 0);
    let outputs = node.hear(2, 4, Message::Seal);
    assert!(
        matches!(outputs[..], [Output::Fault(Fault::TwoLeaders { other, .. })] if other == member(2))
    );
}

#[test]
fn an_epoch_is_not_led_again_after_a_restart() {
    let mut node = Node::new(0, Some((3, 0)), &[span(3, 1, 5)], 0);
    assert_eq!(
        node.asks(Input::Appointed(config(3, 3, 0, &[0, 1], &[]))),
        [Ask::Reappoint]
    );
    assert_eq!(node.replica.phase(), Phase::Idle);
}

#[test]
fn another_life_asks_to_learn_and_does_nothing_else() {
    let mut node = Node::new(0, None, &[], 0);
    node.replica.me.incarnation = Incarnation(99);
    assert_eq!(
        node.asks(Input::Appointed(config(3, 3, 0, &[0, 1], &[]))),
        [Ask::Learn]
    );
    assert_eq!(node.replica.phase(), Phase::Idle);
}

#[test]
fn who_has_the_longest_log_is_to_lead() {
    let mut node = Node::new(0, None, &[span(1, 1, 20)], 0);
    node.step(Input::Appointed(config(4, 4, 0, &[0, 1, 2], &[0, 1, 2])));
    assert_eq!(
        said(&node.step(Input::Persisted(Epoch(4)))),
        [Message::Seal, Message::Seal]
    );
    // A log of a later epoch is longer, however short it is.
    let header = Header {
        shard: ShardId(1),
        epoch: Epoch(4),
        version: ConfigVersion(4),
        from: member(2),
        to: member(0),
    };
    let message = Message::Sealed { end: id(2, 15) };
    let asks = node.asks(Input::Received(Envelope { header, message }));
    let lead = Ask::Lead {
        member: member(2),
        end: id(2, 15),
    };
    assert_eq!(asks, [lead]);
    assert_eq!(node.replica.phase(), Phase::Sealing);
}

#[test]
fn both_of_two_must_have_it_and_one_of_them_can_go_on() {
    let mut node = Node::new(0, None, &[], 0);
    node.step(Input::Appointed(config(4, 4, 0, &[0, 1], &[0, 1])));
    let outputs = node.step(Input::Persisted(Epoch(4)));
    assert_eq!(
        outputs.last(),
        Some(&Output::Begin(Epoch(4))),
        "one promise seals a pair"
    );
    node.step(Input::Written(span(4, 1, 1)));
    assert_eq!(
        node.asks(Input::Durable(id(4, 1))),
        [],
        "one copy commits nothing"
    );
    node.now_us += 10;
    node.hear(1, 4, ack(Standing::Following, 1, 1, 1_000));
    assert_eq!(
        node.step(Input::Activated(Epoch(4)))[0],
        Output::Committed(Lsn(1))
    );
}

#[test]
fn a_leader_that_hears_nobody_is_in_doubt_before_it_serves_anything() {
    let mut node = Node::new(0, None, &[], 0);
    node.step(Input::Appointed(config(4, 4, 0, &[0, 1], &[])));
    node.step(Input::Persisted(Epoch(4)));
    node.step(Input::Written(span(4, 1, 1)));
    node.step(Input::Durable(id(4, 1)));
    node.hear(1, 4, ack(Standing::Following, 1, 1, 1_000));
    assert!(
        node.step(Input::Activated(Epoch(4)))
            .contains(&Output::LeaderSure)
    );
    // An answer that was long on its way says nothing of now.
    node.now_us = 1_000 + Limits::default().doubt_us;
    let outputs = node.hear(1, 4, ack(Standing::Following, 1, 1, 1_000));
    assert_eq!(outputs[0], Output::LeaderDoubt);
    assert!(!node.replica.is_sure());
    node.now_us += 5;
    let outputs = node.hear(1, 4, ack(Standing::Following, 1, 1, node.now_us - 1));
    assert!(outputs.contains(&Output::LeaderSure));
}

#[test]
fn learners_may_change_within_an_epoch_and_nothing_else() {
    let mut node = Node::new(0, None, &[], 0);
    node.lead_alone(2);
    let mut other = config(2, 2, 0, &[0], &[0]);
    other.learners.push(member(5));
    let outputs = node.step(Input::Appointed(other));
    assert!(matches!(said(&outputs)[..], [Message::Follow { .. }]));
    let wrong = config(3, 2, 0, &[0, 1], &[0]);
    let fault = Output::Fault(Fault::SetChanged(ConfigVersion(3)));
    assert!(node.step(Input::Appointed(wrong)).contains(&fault));
}

#[test]
fn a_disk_that_fails_ends_it() {
    let mut node = Node::new(0, None, &[], 0);
    node.lead_alone(2);
    assert_eq!(node.step(Input::Failed), [Output::Retire]);
    assert_eq!(node.hear(1, 3, Message::Seal), []);
    assert_eq!(node.replica.deadline(), None);
}
