//! Where a fault happens: a store, a receiver, nodes, and the journals that tell what came of it.

use std::collections::{BTreeMap, HashMap, HashSet};
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
use crate::attempts::{Attempts, Harm};
use crate::journal::{Account, now};
use crate::load::{Call, Delivery, Route, mixed};
use crate::node::{self, Place};
use crate::oracle::{Fired, Verdict};
use crate::servers::{Servers, Setting, Site};
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
    /// Those that deliver as well.
    both: Vec<NodeId>,
    logs: Vec<PathBuf>,
    harms: Vec<Harm>,
    /// When the last harm was done.
    over: Option<i64>,
    /// What was taken over, and when its owner slept.
    taken_over: HashMap<Delivery, Range<i64>>,
    seed: u64,
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
    pub(crate) fn new(folder: &Path, setting: Setting, site: Site, seed: u64) -> Result<Self> {
        let Site { place, direct } = site;
        let runtime = Runtime::new()?;
        let sink = Sink::start(&folder.join("received"))?;
        let control = runtime.block_on(async {
            let control = direct.open(None).await?;
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
            both: Vec::new(),
            logs: Vec::new(),
            harms: Vec::new(),
            over: None,
            taken_over: HashMap::new(),
            seed,
            random: seed,
        })
    }

    /// Starts a node that delivers.
    pub(crate) fn worker(&mut self) -> Result<NodeId> {
        let node = self.spawn_worker(&self.place.clone())?;
        self.wait_for(node)
    }

    /// Starts so many nodes that deliver, all at once.
    pub(crate) fn workers(&mut self, count: u64) -> Result<Vec<NodeId>> {
        self.workers_at(&self.place.clone(), count)
    }

    /// The same, somewhere else.
    pub(crate) fn workers_at(&mut self, place: &Place, count: u64) -> Result<Vec<NodeId>> {
        let starting = (0..count).map(|_| self.spawn_worker(place));
        let starting = starting.collect::<Result<Vec<_>>>()?;
        starting
            .into_iter()
            .map(|node| self.wait_for(node))
            .collect()
    }

    fn spawn_worker(&mut self, place: &Place) -> Result<Starting> {
        let attempts = attempts_of(&self.folder, self.logs.len());
        self.spawn(place, &["--work", &attempts.to_string_lossy()])
    }

    /// Another place of the same kind, where nothing is yet.
    pub(crate) fn elsewhere(&self, servers: &mut Servers) -> Result<Place> {
        Ok(servers.site(self.setting, &self.folder)?.place)
    }

    /// Starts a node that makes so many calls a second.
    pub(crate) fn producer(&mut self, rate: u64) -> Result<NodeId> {
        self.producer_after(None, rate)
    }

    /// The same, in the place of one that died: what that one left open under a key, it enqueues again.
    pub(crate) fn producer_after(&mut self, dead: Option<NodeId>, rate: u64) -> Result<NodeId> {
        self.spawn_producer(dead, rate, &[])
    }

    /// Starts a node that makes so many calls a second, and delivers.
    pub(crate) fn both(&mut self, rate: u64) -> Result<NodeId> {
        self.both_after(None, rate)
    }

    /// The same, in the place of one that ended.
    pub(crate) fn both_after(&mut self, ended: Option<NodeId>, rate: u64) -> Result<NodeId> {
        let attempts = attempts_of(&self.folder, self.logs.len());
        let id = self.spawn_producer(ended, rate, &["--work", &attempts.to_string_lossy()])?;
        self.both.push(id);
        Ok(id)
    }

    fn spawn_producer(&mut self, dead: Option<NodeId>, rate: u64, more: &[&str]) -> Result<NodeId> {
        let name = self.logs.len();
        let journal = self.folder.join(format!("accepted-{name}"));
        let [rate, name, seed] = [rate, name as u64, self.seed].map(|it| it.to_string());
        let path = journal.to_string_lossy();
        let mut duties = vec!["--rate", &rate, "--journal", &path];
        duties.extend(["--name", &name, "--seed", &seed]);
        let of_dead = self.producers.iter().find(|(id, _)| Some(*id) == dead);
        let left = of_dead.map(|(_, journal)| journal.to_string_lossy().into_owned());
        duties.extend(left.iter().flat_map(|left| ["--resume", left]));
        duties.extend(more);
        let node = self.spawn(&self.place.clone(), &duties)?;
        let id = self.wait_for(node)?;
        self.producers.push((id, journal));
        Ok(id)
    }

    /// Starts a node with these duties.
    fn spawn(&mut self, place: &Place, duties: &[&str]) -> Result<Starting> {
        let id = NodeId(self.logs.len());
        let log = self.folder.join(format!("node-{}.log", id.0));
        // A write beyond a limit is an error to it, as on a full disk, and not its end.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(std::env::current_exe()?);
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

    /// The name of the database, and what the names of the queue's keys begin with.
    pub(crate) fn name(&self) -> &str {
        &self.place.key_prefix
    }

    pub(crate) fn setting(&self) -> Setting {
        self.setting
    }

    /// The processes of the nodes that run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.nodes.values().map(Child::id).collect()
    }

    /// Kills a node, as a crash would.
    pub(crate) fn kill(&mut self, id: NodeId) -> Result {
        let from = now();
        let mut node = self.take(id)?;
        node.kill()?;
        node.wait()?;
        self.harms.push(Harm {
            node: Some(id.0),
            time: from..=now(),
        });
        Ok(())
    }

    /// Lets a node stand still.
    pub(crate) fn freeze(&mut self, id: NodeId) -> Result {
        let from = now();
        self.signal(id, "STOP")?;
        // Until it is thawed.
        self.harms.push(Harm {
            node: Some(id.0),
            time: from..=i64::MAX,
        });
        Ok(())
    }

    /// Lets it go on.
    pub(crate) fn thaw(&mut self, id: NodeId) -> Result {
        self.signal(id, "CONT")?;
        let of_it = |harm: &&mut Harm| harm.node == Some(id.0);
        if let Some(harm) = self.harms.iter_mut().rev().find(of_it) {
            harm.time = *harm.time.start()..=now();
        }
        Ok(())
    }

    /// Says that something was done to all nodes from a time until now.
    pub(crate) fn harmed(&mut self, from: i64) {
        self.harms.push(Harm {
            node: None,
            time: from..=now(),
        });
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
    fn signal(&self, id: NodeId, name: &str) -> Result {
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

    /// Events that this producer began itself, and that are neither accepted nor refused.
    pub(crate) fn open_calls(&self, producer: NodeId) -> Result<u64> {
        let account = self.account()?;
        let own = |call: &Call| call.producer as usize == producer.0;
        Ok(account.open().filter(own).count() as u64)
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

    /// How many deliveries were claimed with their insert, at least: what nodes that enqueue and deliver attempted, and
    /// did not claim otherwise. `None` if there was no such node.
    fn head_starts(&self, attempts: &Attempts) -> Result<Option<u64>> {
        let mut count = None;
        for node in &self.both {
            let claimed = claimed(&fs::read_to_string(&self.logs[node.0])?);
            let beyond = attempts.of(node.0).saturating_sub(claimed);
            *count.get_or_insert(0) += beyond;
        }
        Ok(count)
    }

    /// Says that the harm is done: how long it takes to recover is measured from now on.
    pub(crate) fn over(&mut self) {
        self.over = Some(now());
    }

    /// A number below `limit`, from the seed.
    pub(crate) fn random(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(1);
        mixed(mixed(self.random)) % limit.max(1)
    }

    /// Says that these deliveries were taken over while their owner slept, from one time to the other: nothing
    /// may be written of attempts that were under way all that time.
    pub(crate) fn taken_over(
        &mut self,
        deliveries: impl IntoIterator<Item = Delivery>,
        slept: Range<i64>,
    ) {
        let taken_over = deliveries.into_iter().map(|it| (it, slept.clone()));
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
        let mut attempts = Attempts::default();
        for node in 0..self.logs.len() {
            attempts.add(node, &attempts_of(&self.folder, node))?;
        }
        let stale = self.runtime.block_on(self.stale_writes(&account))?;
        Ok(Verdict {
            fired,
            head_starts: self.head_starts(&attempts)?,
            under_way: attempts.hit_by(&self.harms),
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
        let doubled: HashSet<_> = account.doubled().collect();
        let events: HashSet<_> = doubled.iter().map(|it| it.event).collect();
        let mut stale = 0;
        for event in events {
            let filter = DeliveryFilter {
                event_id: Some(event),
                ..Default::default()
            };
            let deliveries = self.control.deliveries();
            let page = deliveries.list(&filter, PageRequest::first(10)).await?;
            for delivery in page.items {
                let route = self.route_of(delivery.endpoint_id).await?;
                let known = Delivery { event, route };
                if doubled.contains(&known) {
                    let attempts = deliveries.attempts(delivery.id).await?;
                    stale += self.stale_among(&attempts, known);
                }
            }
        }
        Ok(u64::try_from(stale)?)
    }

    async fn route_of(&self, endpoint: Uuid) -> Result<Route> {
        let endpoint = self.control.endpoints().get(endpoint).await?;
        let path = endpoint.url.uri().path();
        let route = Route::ALL.into_iter().find(|route| route.path() == path);
        Ok(route.ok_or("an endpoint that is none of ours")?)
    }

    fn stale_among(&self, attempts: &[Attempt], delivery: Delivery) -> usize {
        let slept = self.taken_over.get(&delivery);
        let is_old = |it: &&Attempt| slept.is_some_and(|slept| spans(it, slept));
        let old = attempts.iter().filter(is_old).count();
        let is_success = |it: &&Attempt| it.outcome.failure().is_none();
        let successes = attempts.iter().filter(is_success).count();
        old.max(successes.saturating_sub(1))
    }
}

/// How many deliveries a node's claims took, by its log.
fn claimed(log: &str) -> u64 {
    let ends = log.lines().filter(|line| line.contains(": close "));
    let count = |line: &str| {
        let (_, fields) = line.split_once(node::CLAIM)?;
        let (_, count) = fields.split_once("webhook.claim.count=")?;
        count.split(['}', ' ']).next()?.parse::<u64>().ok()
    };
    ends.filter_map(count).sum()
}

/// Where a node writes down what it attempts.
fn attempts_of(folder: &Path, node: usize) -> PathBuf {
    folder.join(format!("attempts-{node}"))
}

impl Drop for Arena {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

/// Whether no delivery is unfinished. A store that does not answer yet is asked again. What was in progress at
/// the first look, and failed before the second, then waits for longer than it takes to look a third time.
async fn has_ended(control: &Dispatcher) -> Result<bool> {
    use DeliveryStatus::{InProgress, Pending};
    for status in [Pending, InProgress, Pending] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_claims_took_is_in_the_log_of_a_node_once_each_is_over() {
        let log = "\
2026-01-01T00:00:00Z DEBUG webhook.claim{webhook.claim.limit=32 webhook.claim.count=3}: webhook_core::trace: close time.busy=1ms
2026-01-01T00:00:00Z  WARN webhook.claim{webhook.claim.limit=32}: webhook_core: it is slow
2026-01-01T00:00:00Z DEBUG webhook.claim{webhook.claim.limit=32}: webhook_core::trace: close time.busy=1ms
2026-01-01T00:00:00Z DEBUG webhook.claim{webhook.claim.limit=29 webhook.claim.count=14}: webhook_core::trace: close time.busy=1ms
2026-01-01T00:00:00Z  INFO webhook_core: a stale claim was fenced off
";
        assert_eq!(claimed(log), 17);
    }
}
