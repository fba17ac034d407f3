//! A server as tests need it: asked directly, and through a link that can be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// `host:port` of a `redis://` URL.
pub(crate) fn address(url: &str) -> String {
    let rest = url.trim_start_matches("redis://");
    let authority = rest.split('/').next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// Sends commands to a server, and answers all that it says to them, as text.
pub(crate) async fn command(address: &str, commands: &[&[&[u8]]]) -> String {
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
    String::from_utf8_lossy(&reply).into_owned()
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
    open: watch::Sender<usize>,
    scripts: Arc<AtomicUsize>,
}

impl Link {
    /// A link that is up, or down from the start.
    pub(crate) async fn to(address: String, is_up: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (up, state) = watch::channel(is_up);
        let (open, scripts) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        tokio::spawn(accept(
            listener,
            address,
            state,
            open.clone(),
            Arc::clone(&scripts),
        ));
        Self {
            url: format!("redis://127.0.0.1:{port}"),
            up,
            open,
            scripts,
        }
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
        self.scripts.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    address: String,
    up: watch::Receiver<bool>,
    open: watch::Sender<usize>,
    scripts: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let mut down = up.clone();
        if !*down.borrow_and_update() {
            continue;
        }
        let (address, open, scripts) = (address.clone(), open.clone(), Arc::clone(&scripts));
        open.send_modify(|open| *open += 1);
        tokio::spawn(async move {
            tokio::select! {
                () = forward(client, &address, &scripts) => {}
                _ = down.wait_for(|is_up| !is_up) => {}
            }
            open.send_modify(|open| *open -= 1);
        });
    }
}

async fn forward(client: TcpStream, address: &str, scripts: &AtomicUsize) {
    let server = TcpStream::connect(address)
        .await
        .expect("the server is there");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let mut buffer = vec![0; 65_536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let sent = buffer[..read].windows(4).filter(|bytes| bytes == b"EVAL");
            scripts.fetch_add(sent.count(), Ordering::SeqCst);
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let replies = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = requests => {}
        _ = replies => {}
    }
}
