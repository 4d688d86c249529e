//! Becoming a node: with the right token, once, and by nobody else.

use crate::rig::{Cluster, NOW_S, Node, wait};
use flowstone_peer::BoxFuture;
use flowstone_peer::identity::{Authority, NodeKey, Term, Trust};
use flowstone_peer::join::{
    Admission, Admitted, JoinAsk, JoinError, JoinRefusal, JoinToken, Joined, Joiner, MemberAddress,
    TokenId, TokenKey,
};
use flowstone_wire::NodeId;
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A catalog that knows tokens, and gives out numbers from 10 on.
struct Catalog {
    authority: Authority,
    tokens: Mutex<HashMap<TokenId, Token>>,
    asked: Mutex<Vec<TokenId>>,
    members: Vec<MemberAddress>,
    /// So many answers are "not now", whatever was decided.
    not_now: AtomicUsize,
}

/// A token's key, and who has used it.
type Token = (TokenKey, Option<([u8; 32], Admitted)>);

impl Catalog {
    fn decide(&self, ask: &JoinAsk) -> Result<Admitted, JoinRefusal> {
        self.asked.lock().unwrap().push(ask.token());
        let mut tokens = self.tokens.lock().unwrap();
        let next = NodeId(10 + tokens.values().filter(|t| t.1.is_some()).count() as u32);
        let token = tokens.get_mut(&ask.token()).ok_or(JoinRefusal::Token)?;
        if !ask.is_proven(&token.0) {
            return Err(JoinRefusal::Token);
        }
        if let Some((key, admitted)) = &token.1 {
            let same = *key == ask.public_key().0;
            return if same {
                Ok(admitted.clone())
            } else {
                Err(JoinRefusal::Token)
            };
        }
        let term = Term::of_node(NOW_S);
        let issued = self.authority.issue(next, &ask.public_key(), term).unwrap();
        let admitted = Admitted {
            node: next,
            cluster: self.authority.cluster(),
            issued,
            trust: Trust::only(self.authority.trusted()),
            members: self.members.clone(),
            note: [b"welcome ", ask.note()].concat(),
        };
        token.1 = Some((ask.public_key().0, admitted.clone()));
        Ok(admitted)
    }
}

impl Admission for Shared {
    fn admit(&self, ask: JoinAsk) -> BoxFuture<Result<Admitted, JoinRefusal>> {
        let mut decided = self.0.decide(&ask);
        let count = &self.0.not_now;
        if count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
        {
            decided = Err(JoinRefusal::NotNow("an election".into()));
        }
        Box::pin(async move { decided })
    }
}

struct Shared(Arc<Catalog>);

struct Door {
    cluster: Cluster,
    node: Node,
    catalog: Arc<Catalog>,
}

impl Door {
    fn open() -> Self {
        let cluster = Cluster::new(1);
        let node = cluster.node(1);
        let catalog = Arc::new(Catalog {
            authority: Authority::from_bytes(&cluster.authority.to_bytes()).unwrap(),
            tokens: Mutex::default(),
            asked: Mutex::default(),
            members: vec![MemberAddress {
                node: NodeId(1),
                addresses: vec![node.address()],
            }],
            not_now: AtomicUsize::new(0),
        });
        let admission = Arc::new(Shared(catalog.clone()));
        node.endpoint.set_admission(Some(admission));
        Self {
            cluster,
            node,
            catalog,
        }
    }

    fn token(&self) -> JoinToken {
        let token = JoinToken::generate(self.cluster.authority.fingerprint()).unwrap();
        let mut tokens = self.catalog.tokens.lock().unwrap();
        tokens.insert(token.id(), (token.key(), None));
        token
    }

    fn asked(&self) -> usize {
        self.catalog.asked.lock().unwrap().len()
    }

    fn join(&self, token: &JoinToken, key: &NodeKey) -> Result<Joined, JoinError> {
        self.join_at(token, key, vec![self.node.address()])
    }

    fn join_at(
        &self,
        token: &JoinToken,
        key: &NodeKey,
        cluster: Vec<SocketAddr>,
    ) -> Result<Joined, JoinError> {
        self.join_within(Duration::ZERO, token, key, cluster)
    }

    fn join_within(
        &self,
        patience: Duration,
        token: &JoinToken,
        key: &NodeKey,
        cluster: Vec<SocketAddr>,
    ) -> Result<Joined, JoinError> {
        let joiner = Joiner {
            token: token.clone(),
            cluster,
            key: key.clone(),
            addresses: vec!["10.0.0.9:7400".parse().unwrap()],
            note: b"witness".to_vec(),
            clock: self.cluster.clock(),
            patience,
        };
        wait(joiner.join())
    }
}

fn key() -> NodeKey {
    NodeKey::generate().unwrap()
}

#[test]
fn a_token_makes_a_node_that_the_others_know() {
    let door = Door::open();
    let joined = door.join(&door.token(), &key()).unwrap();
    assert_eq!(joined.credentials.name.node, NodeId(10));
    assert_eq!(joined.note, b"welcome witness");
    assert_eq!(joined.members, door.catalog.members);
    let ten = door
        .cluster
        .node_with(10, |o| o.credentials = joined.credentials);
    ten.knows(1, joined.members[0].addresses[0]);
    ten.up(1);
    door.node.sees(10, true);
}

#[test]
fn a_token_is_for_one_node_which_may_ask_again() {
    let door = Door::open();
    let (token, mine) = (door.token(), key());
    let first = door.join(&token, &mine).unwrap();
    let again = door.join(&token, &mine).unwrap();
    assert_eq!(first.credentials.name, again.credentials.name);
    let other = door.join(&token, &key()).unwrap_err();
    assert_eq!(other, JoinError::Refused(JoinRefusal::Token));
}

#[test]
fn a_token_that_nobody_made_is_refused() {
    let door = Door::open();
    let made_up = JoinToken::generate(door.cluster.authority.fingerprint()).unwrap();
    let refused = door.join(&made_up, &key()).unwrap_err();
    assert_eq!(refused, JoinError::Refused(JoinRefusal::Token));
    // The id of a true token does not help without its secret.
    let (token, other) = (door.token(), door.token());
    let mut tokens = door.catalog.tokens.lock().unwrap();
    tokens.insert(token.id(), (other.key(), None));
    drop(tokens);
    let refused = door.join(&token, &key()).unwrap_err();
    assert_eq!(refused, JoinError::Refused(JoinRefusal::Token));
}

#[test]
fn the_joiner_tells_nothing_to_another_cluster() {
    let door = Door::open();
    let elsewhere = Door::open();
    let token = elsewhere.token();
    let refused = door.join(&token, &key()).unwrap_err();
    let address = door.node.address();
    assert_eq!(refused, JoinError::WrongAuthority { address });
    assert_eq!(door.asked(), 0, "it heard of the token");
    // Of several addresses the right one is found.
    let addresses = vec![address, elsewhere.node.address()];
    let joined = door.join_at(&token, &key(), addresses).unwrap();
    assert_eq!(joined.credentials.name.node, NodeId(10));
}

#[test]
fn a_joiner_that_reaches_nobody_says_so() {
    let door = Door::open();
    // A socket that is open and never answers.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = vec![deaf.local_addr().unwrap()];
    let error = door.join_at(&door.token(), &key(), addresses).unwrap_err();
    assert!(error.to_string().contains("no answer from"), "{error}");
    let none = door.join_at(&door.token(), &key(), Vec::new()).unwrap_err();
    assert_eq!(none, JoinError::NoAddress);
}

#[test]
fn a_node_without_a_catalog_lets_nobody_join() {
    let door = Door::open();
    door.node.endpoint.set_admission(None);
    let error = door.join(&door.token(), &key()).unwrap_err().to_string();
    assert!(
        error.contains("not now") && error.contains("try again"),
        "{error}"
    );
}

#[test]
fn who_has_patience_asks_again_where_it_was_not_now() {
    let door = Door::open();
    let (token, patience) = (door.token(), Duration::from_secs(60));
    let here = || vec![door.node.address()];
    door.catalog.not_now.store(2, Ordering::Relaxed);
    let joined = door.join_within(patience, &token, &key(), here()).unwrap();
    assert_eq!(joined.credentials.name.node, NodeId(10), "one number");
    assert_eq!(door.asked(), 3);
    // A token that is not valid is not a moment later.
    let refused = door.join_within(patience, &token, &key(), here());
    assert_eq!(refused.unwrap_err(), JoinError::Refused(JoinRefusal::Token));
    assert_eq!(door.asked(), 4);
}

#[test]
fn joiners_are_no_peers() {
    // Without a certificate one may ask to join, and nothing else: the node stays unknown to the others.
    let door = Door::open();
    door.join(&door.token(), &key()).unwrap();
    assert!(door.node.endpoint.status(NodeId(10)).is_none());
    assert_eq!(door.asked(), 1);
}
