//! Nodes of a cluster: real processes on loopback, which come and go.

use crate::child;
use crate::http::Http;
use crate::netns::Place;
use crate::ports::free_port;
use crate::process::Process;
use crate::server::Site;
use crate::tier_site::until;
use flowstone_client::Client;
use flowstone_wire::NodeId;
use flowstone_wire::native::{ClusterChange, ClusterStatus};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::time::timeout;

const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// A node that does not answer by then is not asked.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A node.
pub(crate) struct Node {
    /// Before the place that it is on.
    process: Option<Process>,
    site: Site,
    place: Option<Place>,
    peer: String,
    native: String,
    http: Option<SocketAddr>,
}

/// A cluster; the number of a node is one more than its place.
pub(crate) struct ClusterSite {
    nodes: Vec<Node>,
}

impl Node {
    fn new(site: Site, place: Option<Place>) -> Self {
        // In a namespace of its own every port is free.
        let peer = place.as_ref().map_or_else(
            || format!("127.0.0.1:{}", free_port()),
            |place| format!("{}:7500", place.address),
        );
        Self {
            site,
            place,
            peer,
            native: String::new(),
            http: None,
            process: None,
        }
    }

    fn start(&mut self, join: Option<&str>) {
        let host = self.peer.rsplit_once(':').unwrap().0;
        let door = format!("{host}:0");
        let mut doors = vec!["--native", &door, "--http", &door, "--peer", &self.peer];
        if let Some(token) = join {
            doors.extend(["--join", token]);
        }
        let command = match &self.place {
            None => Command::new(child::binary()),
            Some(place) => {
                let mut command = place.enter();
                command.arg(child::binary());
                command
            }
        };
        let mut process = Process::spawn(command, &self.site, &doors);
        let line = process.ready_line(READY_TIMEOUT);
        let word = |name: &str| line.split_whitespace().find_map(|w| w.strip_prefix(name));
        let (Some(native), Some(http)) = (word("native="), word("http=")) else {
            panic!(
                "not ready, it says '{line}', and logged {}",
                process.last_line()
            );
        };
        self.native = format!("tcp://{native}");
        self.http = http.parse().ok();
        self.process = Some(process);
    }
}

impl ClusterSite {
    /// So many nodes, each shard on as many of them as `copies` says. `log` and `rest` are settings.
    pub(crate) async fn start(count: usize, copies: u8, log: &str, rest: &str) -> Self {
        Self::start_at(vec![None; count], copies, log, rest).await
    }

    /// The same, each node in a place of its own.
    pub(crate) async fn start_at(
        places: Vec<Option<Place>>,
        copies: u8,
        log: &str,
        rest: &str,
    ) -> Self {
        let nodes = places
            .into_iter()
            .map(|place| Node::new(Site::new(log, rest), place));
        Self::begin(nodes.collect(), copies).await
    }

    /// A node with each of these data directories.
    pub(crate) async fn start_on(data: &[PathBuf], copies: u8, log: &str, rest: &str) -> Self {
        let nodes = data
            .iter()
            .map(|data| Node::new(Site::with_data(log, rest, data), None));
        Self::begin(nodes.collect(), copies).await
    }

    async fn begin(nodes: Vec<Node>, copies: u8) -> Self {
        let mut cluster = Self { nodes: Vec::new() };
        for mut node in nodes {
            let join = match cluster.nodes.is_empty() {
                true => None,
                false => Some(cluster.token(false).await),
            };
            node.start(join.as_deref());
            cluster.nodes.push(node);
        }
        let client = cluster.client().await;
        let copies = Some(copies);
        let change = ClusterChange::SetCopies {
            group: None,
            copies,
        };
        client.change_cluster(change).await.unwrap();
        cluster.well().await;
        cluster
    }

    /// One more node.
    pub(crate) async fn add(&mut self, witness: bool, log: &str, rest: &str) {
        let token = self.token(witness).await;
        let mut node = Node::new(Site::new(log, rest), None);
        node.start(Some(&token));
        self.nodes.push(node);
    }

    async fn token(&self, witness: bool) -> String {
        let client = self.client().await;
        client.join_token(witness, 60).await.unwrap()
    }

    /// A client that knows every node that runs.
    pub(crate) async fn client(&self) -> Client {
        let running = self.nodes.iter().filter(|n| n.process.is_some());
        let urls: Vec<&str> = running.map(|n| &n.native[..]).collect();
        Client::connect(&urls.join(",")).await.unwrap()
    }

    /// A client that was told of one node only.
    pub(crate) async fn client_of(&self, node: NodeId) -> Client {
        Client::connect(&self.at(node).native).await.unwrap()
    }

    /// The HTTP door of a node.
    pub(crate) fn http(&self, node: NodeId) -> Http {
        Http(self.at(node).http.unwrap())
    }

    /// Whether a node runs.
    pub(crate) fn runs(&self, node: NodeId) -> bool {
        self.at(node).process.is_some()
    }

    /// The place of a node.
    pub(crate) fn site(&self, node: NodeId) -> &Site {
        &self.at(node).site
    }

    fn at(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize - 1]
    }

    fn at_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.0 as usize - 1]
    }

    /// All nodes.
    pub(crate) fn all(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.nodes.len() as u32).map(NodeId)
    }

    /// Changes the settings of a node for its next start.
    pub(crate) fn set(&mut self, node: NodeId, log: &str, rest: &str) {
        self.at_mut(node).site.set(log, rest);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, node: NodeId) {
        self.at_mut(node).process.take().unwrap().kill();
    }

    /// SIGKILL for all that run.
    pub(crate) fn kill_all(&mut self) {
        let running = self.nodes.iter_mut().filter_map(|n| n.process.take());
        running.for_each(Process::kill);
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop(&mut self, node: NodeId) {
        let status = self.at_mut(node).process.take().unwrap().terminate();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// SIGSTOP.
    pub(crate) fn freeze(&self, node: NodeId) {
        self.at(node).process.as_ref().unwrap().freeze();
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self, node: NodeId) {
        self.at(node).process.as_ref().unwrap().thaw();
    }

    /// Starts a node again.
    pub(crate) fn start_again(&mut self, node: NodeId) {
        self.at_mut(node).start(None);
    }

    /// Clients of those that run, each told of one.
    async fn each(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for node in self.nodes.iter().filter(|n| n.process.is_some()) {
            let connecting = timeout(ANSWER_TIMEOUT, Client::connect(&node.native));
            clients.extend(connecting.await.ok().and_then(Result::ok));
        }
        clients
    }

    /// How the cluster stands, as the node says that has heard most.
    pub(crate) async fn status(&self) -> ClusterStatus {
        newest(&self.each().await).await.unwrap()
    }

    /// Waits until a status is as wanted.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&ClusterStatus) -> bool) {
        let clients = self.each().await;
        let asked = async || newest(&clients).await.is_some_and(|status| is(&status));
        until(what, asked).await;
    }

    /// Waits until every shard has all copies that are wanted, and none of them lacks anything.
    pub(crate) async fn well(&self) {
        self.until("every copy has everything", is_well).await;
    }
}

/// What the node says that has heard most: one that was away may not know it yet, and one that does not
/// vote does not hear leaders.
async fn newest(clients: &[Client]) -> Option<ClusterStatus> {
    let mut all = Vec::new();
    for client in clients {
        let asked = timeout(ANSWER_TIMEOUT, client.cluster()).await;
        all.extend(asked.ok().and_then(Result::ok));
    }
    let told = |s: &ClusterStatus| s.shards.iter().filter(|s| s.told.is_some()).count();
    // One that is cut off goes on asking for votes, in ever newer terms.
    all.into_iter()
        .max_by_key(|s| (s.leader.is_some(), s.term, s.applied, told(s)))
}

/// Whether every shard has all copies that are wanted, and they have everything that is committed.
fn is_well(status: &ClusterStatus) -> bool {
    !status.shards.is_empty()
        && status.shards.iter().all(|s| {
            let told = s.told.as_ref();
            let copies = told.map_or(0, |t| t.copies as usize);
            s.is_active && s.members.len() == usize::from(s.copies) && copies == s.members.len()
        })
}
