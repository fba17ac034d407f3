//! Where a fault happens: a store, a receiver, nodes, and the journals that tell what came of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use uuid::Uuid;
use webhook_delivery::{Attempt, DeliveryFilter, DeliveryStatus, Dispatcher, PageRequest};

use crate::Result;
use crate::journal::{Account, now};
use crate::node::{self, Place};
use crate::oracle::{Fired, Verdict};
use crate::servers::{Servers, Setting};
use crate::sink::Sink;

/// Between two looks at whether something has happened.
const PAUSE: Duration = Duration::from_millis(10);

/// How long everything accepted may take to arrive once the fault is over.
const TO_SETTLE: Duration = Duration::from_secs(60);

/// What a worker logs for each write of an owner that was not one any more.
const FENCED: &str = "a stale claim was fenced off";

/// A fault's surroundings. What it started ends with it.
pub(crate) struct Arena {
    folder: PathBuf,
    setting: Setting,
    place: Place,
    runtime: Runtime,
    control: Dispatcher,
    sink: Sink,
    /// Those that run.
    nodes: BTreeMap<NodeId, Child>,
    /// All that there were, and what they wrote.
    producers: Vec<(NodeId, PathBuf)>,
    logs: Vec<PathBuf>,
    /// When the last harm was done.
    over: Option<i64>,
    /// Events whose deliveries were taken over, and when their owner slept.
    taken_over: HashMap<Uuid, Range<i64>>,
    random: u64,
}

/// A node that was started, while it runs or after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(usize);

/// A node that has not said that it is ready.
struct Starting {
    id: NodeId,
    stdout: ChildStdout,
}

impl Arena {
    pub(crate) fn new(folder: &Path, setting: Setting, place: Place, seed: u64) -> Result<Self> {
        let runtime = Runtime::new()?;
        let sink = Sink::start(&folder.join("received"))?;
        let control = runtime.block_on(async {
            let control = place.open().await?;
            node::create_endpoints(&control, &sink.url()).await?;
            Result::Ok(control)
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            setting,
            place,
            runtime,
            control,
            sink,
            nodes: BTreeMap::new(),
            producers: Vec::new(),
            logs: Vec::new(),
            over: None,
            taken_over: HashMap::new(),
            random: seed,
        })
    }

    /// Starts a node that delivers.
    pub(crate) fn worker(&mut self) -> Result<NodeId> {
        let node = self.spawn(&self.place.clone(), &["--work"])?;
        self.wait_for(node)
    }

    /// Starts so many nodes that deliver, all at once.
    pub(crate) fn workers(&mut self, count: u64) -> Result<Vec<NodeId>> {
        self.workers_at(&self.place.clone(), count)
    }

    /// The same, somewhere else.
    pub(crate) fn workers_at(&mut self, place: &Place, count: u64) -> Result<Vec<NodeId>> {
        let starting = (0..count).map(|_| self.spawn(place, &["--work"]));
        let starting = starting.collect::<Result<Vec<_>>>()?;
        starting
            .into_iter()
            .map(|node| self.wait_for(node))
            .collect()
    }

    /// Another place of the same kind, where nothing is yet.
    pub(crate) fn elsewhere(&self, servers: &mut Servers) -> Result<Place> {
        servers.place(self.setting, &self.folder)
    }

    /// Starts a node that enqueues so many events a second.
    pub(crate) fn producer(&mut self, rate: u64) -> Result<NodeId> {
        let journal = self.folder.join(format!("accepted-{}", self.logs.len()));
        let file = journal.to_string_lossy().into_owned();
        let duties = ["--rate", &rate.to_string(), "--journal", &file];
        let node = self.spawn(&self.place.clone(), &duties)?;
        let id = self.wait_for(node)?;
        self.producers.push((id, journal));
        Ok(id)
    }

    /// Starts a node with these duties.
    fn spawn(&mut self, place: &Place, duties: &[&str]) -> Result<Starting> {
        let id = NodeId(self.logs.len());
        let log = self.folder.join(format!("node-{}.log", id.0));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["node", "--store", &place.store]);
        if let Some(queue) = &place.queue {
            command.args(["--queue", queue, "--key-prefix", &place.key_prefix]);
        }
        command.args(["--lease-margin", &place.lease_margin.to_string()]);
        command
            .args(duties)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&log)?).spawn()?;
        let stdout = child.stdout.take().ok_or("the node has no output")?;
        self.nodes.insert(id, child);
        self.logs.push(log);
        Ok(Starting { id, stdout })
    }

    fn wait_for(&mut self, Starting { id, stdout }: Starting) -> Result<NodeId> {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        match line.trim() {
            "ready" => Ok(id),
            _ => {
                let log = fs::read_to_string(&self.logs[id.0])?;
                Err(format!("a node did not start\n{log}").into())
            }
        }
    }

    pub(crate) fn setting(&self) -> Setting {
        self.setting
    }

    /// Kills a node, as a crash would.
    pub(crate) fn kill(&mut self, id: NodeId) -> Result {
        let mut node = self.take(id)?;
        node.kill()?;
        node.wait()?;
        Ok(())
    }

    /// Asks a node to end, and waits until it has.
    pub(crate) fn terminate(&mut self, id: NodeId) -> Result {
        self.signal(id, "TERM")?;
        let status = self.take(id)?.wait()?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("a node ended with {status}").into()),
        }
    }

    /// Sends a node a signal by its name.
    pub(crate) fn signal(&self, id: NodeId, name: &str) -> Result {
        let node = self.nodes.get(&id).ok_or("the node has ended")?;
        let pid = node.id().to_string();
        let mut kill = Command::new("sh");
        let sent = kill.args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]);
        match sent.status()?.success() {
            true => Ok(()),
            false => Err(format!("{name} was not sent").into()),
        }
    }

    fn take(&mut self, id: NodeId) -> Result<Child> {
        Ok(self.nodes.remove(&id).ok_or("the node has ended")?)
    }

    /// Waits until the receiver has answered so many webhooks more.
    pub(crate) fn wait_for_deliveries(&self, count: u64) -> Result {
        let before = self.sink.seen()?.answered;
        wait_until("webhooks arrive", TO_SETTLE, || {
            Ok(self.sink.seen()?.answered >= before + count)
        })
    }

    /// Waits until webhooks are under way.
    pub(crate) fn wait_for_traffic(&self) -> Result {
        wait_until("webhooks are under way", TO_SETTLE, || {
            Ok(self.sink.seen()?.in_flight > 0)
        })
    }

    /// The requests whose sender was gone before they were answered, so far.
    pub(crate) fn cut(&self) -> Result<u64> {
        Ok(self.sink.seen()?.cut)
    }

    /// What the journals say now.
    pub(crate) fn account(&self) -> Result<Account> {
        let mut account = Account::default();
        for (_, journal) in &self.producers {
            account.add(journal)?;
        }
        account.add(self.sink.journal())?;
        Ok(account)
    }

    /// The writes of stale owners that were refused, so far.
    pub(crate) fn fenced(&self) -> Result<u64> {
        self.logged(&[FENCED])
    }

    /// Waits until a node complains of something.
    pub(crate) fn wait_for_complaints(&self) -> Result {
        const COMPLAINTS: [&str; 2] = [" WARN ", " ERROR "];
        let before = self.logged(&COMPLAINTS)?;
        wait_until("nodes notice", TO_SETTLE, || {
            Ok(self.logged(&COMPLAINTS)? > before)
        })
    }

    fn logged(&self, parts: &[&str]) -> Result<u64> {
        let mut count = 0;
        for log in &self.logs {
            let log = fs::read_to_string(log)?;
            count += parts
                .iter()
                .map(|part| log.matches(part).count())
                .sum::<usize>();
        }
        Ok(u64::try_from(count)?)
    }

    /// Says that the harm is done: how long it takes to recover is measured from now on.
    pub(crate) fn over(&mut self) {
        self.over = Some(now());
    }

    /// A number below `limit`, from the seed.
    pub(crate) fn random(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    /// Says that these events' deliveries were taken over while their owner slept, from one time to the other:
    /// nothing may be written of attempts that were under way all that time.
    pub(crate) fn taken_over(&mut self, events: impl IntoIterator<Item = Uuid>, slept: Range<i64>) {
        let taken_over = events.into_iter().map(|event| (event, slept.clone()));
        self.taken_over.extend(taken_over);
    }

    /// Ends the producers, waits until the store says that nothing is to be delivered any more, and judges.
    pub(crate) fn settle(mut self, fired: Fired) -> Result<Verdict> {
        let over = self.over.unwrap_or_else(now);
        for (id, _) in self.producers.clone() {
            if self.nodes.contains_key(&id) {
                self.terminate(id)?;
            }
        }
        let settled = wait_until("all is delivered", TO_SETTLE, || {
            self.runtime.block_on(has_ended(&self.control))
        });
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.terminate(id)?;
        }
        let account = self.account()?;
        let stale = self.runtime.block_on(self.stale_writes(&account))?;
        Ok(Verdict {
            fired,
            fenced: self.fenced()?,
            stale,
            forged: self.sink.seen()?.forged,
            over,
            unsettled: settled.err().map(|error| error.to_string()),
            account,
        })
    }
}

impl Arena {
    /// Attempts that were written by an owner that was none any more: another had taken over, or had succeeded.
    /// Only what was received more than once can have one.
    async fn stale_writes(&self, account: &Account) -> Result<u64> {
        let mut stale = 0;
        for event in account.doubled() {
            let filter = DeliveryFilter {
                event_id: Some(event),
                ..Default::default()
            };
            let deliveries = self.control.deliveries();
            let page = deliveries.list(&filter, PageRequest::first(10)).await?;
            let slept = self.taken_over.get(&event);
            for delivery in page.items {
                let attempts = deliveries.attempts(delivery.id).await?;
                let is_old = |it: &&Attempt| slept.is_some_and(|slept| spans(it, slept));
                let old = attempts.iter().filter(is_old).count();
                let is_success = |it: &&Attempt| it.outcome.failure().is_none();
                let successes = attempts.iter().filter(is_success).count();
                stale += old.max(successes.saturating_sub(1));
            }
        }
        Ok(u64::try_from(stale)?)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Whether no delivery is unfinished. A store that does not answer yet is asked again.
async fn has_ended(control: &Dispatcher) -> Result<bool> {
    for status in [DeliveryStatus::Pending, DeliveryStatus::InProgress] {
        let filter = DeliveryFilter {
            status: Some(status),
            ..Default::default()
        };
        let page = control
            .deliveries()
            .list(&filter, PageRequest::first(1))
            .await;
        if page.map_or(true, |page| !page.items.is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an attempt was under way all that time.
fn spans(attempt: &Attempt, time: &Range<i64>) -> bool {
    let end = attempt.started_at + attempt.duration;
    attempt.started_at.as_micros() <= time.start && end.as_micros() >= time.end
}

/// Looks until `reached`.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    reached: impl Fn() -> Result<bool>,
) -> Result {
    let began = Instant::now();
    while began.elapsed() < limit {
        if reached()? {
            return Ok(());
        }
        pause(PAUSE);
    }
    Err(format!("waited for {} s in vain: {what}", limit.as_secs()).into())
}

/// Faults take their time.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
