//! A server as tests need it: asked directly, and through a link that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// `host:port` of a Redis URL, of the first node in a cluster.
pub(crate) fn address(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Sends commands to a server, and answers all that it says to them, as text.
pub(crate) async fn command(address: &str, commands: &[&[&[u8]]]) -> String {
    String::from_utf8_lossy(&replies(address, commands).await).into_owned()
}

/// Sends commands to a server, and answers all that it says to them.
async fn replies(address: &str, commands: &[&[&[u8]]]) -> Vec<u8> {
    let mut server = TcpStream::connect(address)
        .await
        .expect("the server is there");
    let mut request = Vec::new();
    let quit: &[&[u8]] = &[b"QUIT"];
    for command in commands.iter().chain([&quit]) {
        request.extend(format!("*{}\r\n", command.len()).into_bytes());
        for part in *command {
            request.extend(format!("${}\r\n", part.len()).into_bytes());
            request.extend_from_slice(part);
            request.extend_from_slice(b"\r\n");
        }
    }
    server.write_all(&request).await.expect("the server reads");
    let mut reply = Vec::new();
    server
        .read_to_end(&mut reply)
        .await
        .expect("the server answers");
    reply
}

/// A primary of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    id: String,
    address: String,
    slots: Vec<(u16, u16)>,
}

impl Node {
    pub(crate) async fn command(&self, command: &[&[u8]]) -> String {
        let reply = self::command(&self.address, &[command]).await;
        assert!(!reply.starts_with('-'), "{reply}");
        reply
    }

    async fn set_slot(&self, slot: &str, state: &str, node: &Node) {
        let words = ["CLUSTER", "SETSLOT", slot, state, &node.id];
        self.command(&words.map(str::as_bytes)).await;
    }

    /// Some of a slot's keys. Lanes have bytes in them, so this is no text.
    async fn keys_in(&self, slot: &str) -> Vec<Vec<u8>> {
        let command: &[&[u8]] = &[b"CLUSTER", b"GETKEYSINSLOT", slot.as_bytes(), b"3"];
        let reply = replies(&self.address, &[command]).await;
        let (mut rest, mut keys) = (reply.as_slice(), Vec::new());
        let line = |rest: &mut &[u8]| {
            let end = rest
                .windows(2)
                .position(|it| it == b"\r\n")
                .expect("a line");
            let (line, after) = rest.split_at(end);
            *rest = &after[2..];
            let count = std::str::from_utf8(&line[1..]).expect("a number");
            count.parse::<usize>().expect("a number")
        };
        for _ in 0..line(&mut rest) {
            let length = line(&mut rest);
            keys.push(rest[..length].to_vec());
            rest = &rest[length + 2..];
        }
        keys
    }
}

/// The primaries of the cluster at `address`.
pub(crate) async fn primaries(address: &str) -> Vec<Node> {
    let nodes = command(address, &[&[b"CLUSTER", b"NODES"]]).await;
    let node = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let [id, address, flags, ..] = fields.as_slice() else {
            return None;
        };
        let slots = fields.iter().skip(8).filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((*range, *range));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        flags.contains("master").then(|| Node {
            id: (*id).to_owned(),
            address: address.split('@').next().unwrap_or_default().to_owned(),
            slots: slots.collect(),
        })
    };
    nodes.lines().filter_map(node).collect()
}

/// The slot of a key, and who has it.
pub(crate) async fn owner_of(address: &str, key: &str) -> (String, Node) {
    let slot = command(address, &[&[b"CLUSTER", b"KEYSLOT", key.as_bytes()]]).await;
    let slot = slot.lines().next().unwrap_or_default()[1..].to_owned();
    let number: u16 = slot.parse().expect("a slot");
    let mut primaries = primaries(address).await.into_iter();
    let has_it = |node: &Node| {
        let mut slots = node.slots.iter();
        slots.any(|(first, last)| (*first..=*last).contains(&number))
    };
    (
        slot,
        primaries.find(has_it).expect("each slot has an owner"),
    )
}

/// Moves a slot to another node as `redis-cli --cluster reshard` does, a few keys at a time, and calls `between` before
/// each of them. Answers how many keys moved.
pub(crate) async fn move_slot(
    slot: &str,
    from: &Node,
    to: &Node,
    mut between: impl AsyncFnMut(),
) -> usize {
    let mut moved = 0;
    to.set_slot(slot, "IMPORTING", from).await;
    from.set_slot(slot, "MIGRATING", to).await;
    loop {
        between().await;
        let keys = from.keys_in(slot).await;
        if keys.is_empty() {
            break;
        }
        let (host, port) = to.address.rsplit_once(':').expect("a port");
        let migrate = ["MIGRATE", host, port, "", "0", "5000", "KEYS"];
        let migrate = migrate.iter().map(|word| word.as_bytes());
        let migrate: Vec<&[u8]> = migrate.chain(keys.iter().map(Vec::as_slice)).collect();
        // One that is gone by now is no error.
        from.command(&migrate).await;
        moved += keys.len();
    }
    to.set_slot(slot, "NODE", to).await;
    from.set_slot(slot, "NODE", to).await;
    moved
}

/// Forgets all keys of a prefix, as a server does that restarts empty.
pub(crate) async fn erase(address: &str, prefix: &str) {
    let script = b"for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
    let keys = format!("{{{prefix}:*");
    let reply = command(address, &[&[b"EVAL", script, b"0", keys.as_bytes()]]).await;
    assert!(!reply.starts_with('-'), "{reply}");
}

/// A link to a server, which can be cut and mended, and knows how many scripts went over it.
pub(crate) struct Link {
    pub(crate) url: String,
    up: watch::Sender<bool>,
    /// Where new connections lead to.
    address: watch::Sender<String>,
    open: watch::Sender<usize>,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct Traffic {
    scripts: AtomicUsize,
    /// Whether the link breaks when the next script has run.
    breaks: AtomicBool,
}

impl Link {
    /// A link that is up, or down from the start.
    pub(crate) async fn to(address: String, is_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (up, state) = watch::channel(is_up);
        let (address, leads_to) = watch::channel(address);
        let (open, traffic) = (watch::Sender::new(0), Arc::default());
        tokio::spawn(accept(
            listener,
            leads_to,
            state,
            open.clone(),
            Arc::clone(&traffic),
        ));
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            up,
            address,
            open,
            traffic,
        }
    }

    /// Has new connections lead to another server. Those that are there stay.
    pub(crate) fn lead_to(&self, address: String) {
        self.address.send_replace(address);
    }

    /// Breaks the connection when the next script has run, before its reply arrives.
    pub(crate) fn break_after_script(&self) {
        self.traffic.breaks.store(true, Ordering::SeqCst);
    }

    /// Whether that is still to come.
    pub(crate) fn is_to_break(&self) -> bool {
        self.traffic.breaks.load(Ordering::SeqCst)
    }

    /// Breaks all connections and lets no new one through, or mends the link.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.up.send_replace(is_up);
    }

    /// Waits until so many connections go over it.
    pub(crate) async fn has_open(&self, count: usize) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open == count)
            .await
            .expect("the link is there");
    }

    /// How many scripts were sent.
    pub(crate) fn scripts(&self) -> usize {
        self.traffic.scripts.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    leads_to: watch::Receiver<String>,
    up: watch::Receiver<bool>,
    open: watch::Sender<usize>,
    traffic: Arc<Traffic>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let mut down = up.clone();
        if !*down.borrow_and_update() {
            continue;
        }
        let address = leads_to.borrow().clone();
        let (open, traffic) = (open.clone(), Arc::clone(&traffic));
        open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            tokio::select! {
                () = forward(client, &address, &traffic) => {}
                _ = down.wait_for(|is_up| !is_up) => {}
            }
            open.send_modify(|open| *open -= 1);
        });
    }
}

async fn forward(client: TcpStream, address: &str, traffic: &Traffic) {
    let server = TcpStream::connect(address)
        .await
        .expect("the server is there");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let breaks_now = AtomicBool::new(false);
    let requests = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let sent = buffer[..read].windows(4).filter(|bytes| bytes == b"EVAL");
            let sent = sent.count();
            traffic.scripts.fetch_add(sent, Ordering::SeqCst);
            if sent > 0 && traffic.breaks.swap(false, Ordering::SeqCst) {
                breaks_now.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let replies = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            if breaks_now.load(Ordering::SeqCst)
                || to_client.write_all(&buffer[..read]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = replies => {}
    }
}
