//! Network namespaces: nodes that are really apart, with links that can be cut. Needs root.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

fn ip(words: &str) -> Result<(), String> {
    run("ip", words)
}

/// Runs a program with these words.
fn run(program: &str, words: &str) -> Result<(), String> {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {words}: {said}"))
}

/// Whether no interface has an address of a subnet.
fn is_free([a, b, c]: [u8; 3]) -> bool {
    let subnet = format!("{a}.{b}.{c}.0/24");
    let shown = Command::new("ip")
        .args(["-o", "-4", "addr", "show", "to", &subnet])
        .output();
    shown.is_ok_and(|o| o.status.success() && o.stdout.is_empty())
}

impl Place {
    /// Runs there what is said behind it. Not by `ip netns exec`: that mounts, beside tests that do.
    pub(crate) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace));
        command
    }
}

/// A bridge with namespaces on it; gone when it is dropped.
pub(crate) struct Net {
    id: String,
    subnet: [u8; 3],
    count: u8,
}

/// Where a process is to run, and which address it has there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) address: Ipv4Addr,
}

impl Net {
    /// So many namespaces; why not, where this machine does not allow it.
    pub(crate) fn new(count: u8) -> Result<Self, String> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let pid = std::process::id();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}{n:x}", pid & 0xffff);
        // A run that was killed leaves its bridge: two of one subnet would take each other's packets.
        let subnets = (0..64).map(|k| {
            [
                10,
                192 + ((pid >> 8) as u8 & 0x1f),
                pid as u8 ^ (n << 6) ^ k,
            ]
        });
        let free = subnets.into_iter().find(|subnet| is_free(*subnet));
        let subnet = free.ok_or("no subnet is free")?;
        let net = Self { id, subnet, count };
        net.build()?;
        let tried = net.place(0).enter().arg("true").output();
        let entered = tried.map_err(|e| format!("nsenter: {e}"))?;
        if !entered.status.success() {
            let said = String::from_utf8_lossy(&entered.stderr);
            return Err(format!("nsenter: {said}"));
        }
        Ok(net)
    }

    fn build(&self) -> Result<(), String> {
        let (id, gateway) = (&self.id, self.address(1));
        ip(&format!("link add fb{id} type bridge"))?;
        ip(&format!("addr add {gateway}/24 dev fb{id}"))?;
        ip(&format!("link set fb{id} up"))?;
        for n in 0..self.count {
            let Place { namespace, address } = self.place(n);
            ip(&format!("netns add {namespace}"))?;
            ip(&format!(
                "link add fv{id}{n} type veth peer name eth0 netns {namespace}"
            ))?;
            ip(&format!("link set fv{id}{n} master fb{id} up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
        }
        Ok(())
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, last)
    }

    /// A namespace.
    pub(crate) fn place(&self, n: u8) -> Place {
        Place {
            namespace: format!("fs{}{n}", self.id),
            address: self.address(10 + n),
        }
    }

    /// Cuts a namespace off, both ways.
    pub(crate) fn cut(&self, n: u8) {
        ip(&format!("link set fv{}{n} down", self.id)).unwrap();
    }

    /// Mends it.
    pub(crate) fn mend(&self, n: u8) {
        ip(&format!("link set fv{}{n} up", self.id)).unwrap();
    }

    /// Nothing gets from one namespace to another one any more; the other way it does.
    pub(crate) fn cut_one_way(&self, from: u8, to: u8) {
        self.route("add", from, to);
    }

    /// Mends it.
    pub(crate) fn mend_one_way(&self, from: u8, to: u8) {
        self.route("del", from, to);
    }

    fn route(&self, verb: &str, from: u8, to: u8) {
        let (there, Place { namespace, .. }) = (self.place(to).address, self.place(from));
        ip(&format!("-n {namespace} route {verb} blackhole {there}/32")).unwrap();
    }

    /// What a namespace sends is late by so much, more or less, and some of it is lost; why not, where the
    /// kernel cannot do that.
    pub(crate) fn slow_down(&self, n: u8) -> Result<(), String> {
        let namespace = self.place(n).namespace;
        let how = format!("-n {namespace} qdisc add dev eth0 root netem delay 20ms 10ms loss 2%");
        run("tc", &how)
    }

    /// Nothing of that any more.
    pub(crate) fn speed_up(&self, n: u8) {
        let namespace = self.place(n).namespace;
        run("tc", &format!("-n {namespace} qdisc del dev eth0 root")).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in 0..self.count {
            // What was never made cannot be removed.
            let _ = ip(&format!("netns del {}", self.place(n).namespace));
        }
        let _ = ip(&format!("link del fb{}", self.id));
    }
}
