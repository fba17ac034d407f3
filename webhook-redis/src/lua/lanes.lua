-- What the other scripts begin with: a shard's lanes. The rules are those of the memory backend, `memory/lanes.rs`.
--
-- A script touches one shard. KEYS are the keys of the shard as a whole; those of its lanes and tenants are made
-- from KEYS[1] and so carry the same hash tag, which is what a cluster asks for: they are in the same slot.
--
--   {p:s}                 hash: generation, server, fence (the greatest so far), turn (the last one given), passed
--                         (set while somebody left lanes in the ring because it has no room for more of them)
--   {p:s}:turns           tenants with lanes in the ring, by turn
--   {p:s}:timers          lanes that become eligible later, by when
--   {p:s}:leases          lane .. delivery, by the end of the lease
--   {p:s}:lanes           lanes that have jobs: what `depth` looks at
--   {p:s}:ring:<tenant>   lanes that may be eligible now, by turn
--   {p:s}:lane:<lane>     hash: limits, lining, held, arrival, probed (until when it has one job at a time)
--   {p:s}:waiting:<lane>  sequence .. delivery, by due time
--   {p:s}:line:<lane>     the same by sequence, in an ordered lane only
--   {p:s}:leased:<lane>   hash: delivery -> fence, sequence, due, until
--   {p:s}:answer:<who>    what a claim got, for as long as its leases last
--
-- Where a lane is (ring, timers, nowhere) and what it has in flight is written nowhere but in these sets. So a set
-- that is lost is made good by the next push of the same jobs.
--
-- Sending a command costs more than what it does. So a lane's jobs go together, and so does what a script has to
-- tell a set of the whole shard. None has more to tell than `unpack` takes, which is about 8,000 arguments.
--
-- ARGV: now in microseconds or '', the channel, who announces for which shard, and then the script's own.

local shard, turns, timers, leases, filled = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call, max, min, sub = redis.call, math.max, math.min, string.sub

-- 2^53: until the year 2255 a double counts every microsecond.
local NEVER = 9007199254740992
-- A job under a lease: fence, sequence, due, until.
local LEASED, LEASED_SIZE = '>dc8dd', 32
-- What a lane's limits begin with: cap, interval, tolerance, and whether it is ordered. The rest is the tenant.
local LIMITS, LIMITS_SIZE = '>dddB', 25
-- The most heads of a lane that are read at once.
local MAX_HEADS = 256

local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
local now = tonumber(ARGV[1]) or clock
local generation

-- A command on a key that many lanes share. If the key is of a wrong type somebody else wrote it: then it goes, and
-- the generation with it, so that the store fills the shard anew.
local function shared(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  local failure = type(reply) == 'table' and reply.err
  if not failure then
    return reply
  end
  if not string.find(failure, 'WRONGTYPE', 1, true) then
    error(reply)
  end
  call('UNLINK', key)
  generation = string.format('%.0f', clock)
  return call(command, key, ...)
end

local state = shared('HMGET', shard, 'generation', 'fence', 'turn', 'passed')
generation = generation or state[1] or string.format('%.0f', clock)
local fence = tonumber(state[2]) or 0
local turn = tonumber(state[3]) or 0

local batches, last_batches = {}, {}
-- How many lanes joined the ring.
local joined = 0

-- A command whose arguments are added until `flush` sends it, if there are any.
local function batch_in(list, ...)
  local command = { ... }
  command.bare = #command
  list[#list + 1] = command
  return command
end

local function batch(...)
  return batch_in(batches, ...)
end

-- One that follows all others. While a slot moves to another node a script may end between any two commands, as the
-- keys of a lane are there already: so what says that there is something to do goes when it has been done.
local function last_batch(...)
  return batch_in(last_batches, ...)
end

local function send(commands)
  for _, command in ipairs(commands) do
    if #command > command.bare then
      local reply = shared(unpack(command))
      joined = joined + (command.joins and reply or 0)
      for i = #command, command.bare + 1, -1 do
        command[i] = nil
      end
    end
  end
end

local function flush()
  send(batches)
  send(last_batches)
end

local timed, untimed = batch('ZADD', timers), last_batch('ZREM', timers)
local in_turn = batch('ZADD', turns, 'NX')
-- Lanes without jobs, and the keys of those that are to be forgotten altogether.
local emptied, forgotten = batch('SREM', filled), batch('DEL')
-- By tenant.
local in_ring = {}

local lanes = {}

local function after(by)
  return min(now + by, NEVER)
end

-- When a lane or a lease falls due that is not in the ring.
local function next_timer()
  local lane = tonumber(shared('ZRANGE', timers, 0, 0, 'WITHSCORES')[2])
  local lease = tonumber(shared('ZRANGE', leases, 0, 0, 'WITHSCORES')[2])
  local first = min(lane or NEVER, lease or NEVER)
  return (lane or lease) and max(first, now)
end

-- When a claim may find something; `now` if at once.
local function next_due()
  if call('EXISTS', turns) == 1 then
    return now
  end
  return next_timer()
end

local due_before = next_due()

-- Every script's reply. Others hear of it only if there is something to claim sooner than they believe. While the
-- ring holds what somebody passed over, that is whatever else comes into it.
local function answer(result)
  flush()
  if generation ~= state[1] or fence ~= tonumber(state[2]) or turn ~= tonumber(state[3]) then
    call('HSET', shard, 'generation', generation, 'fence', fence, 'turn', turn)
  end
  local due = next_due()
  local is_news = state[4] and joined > 0
  if is_news then
    call('HDEL', shard, 'passed')
  end
  if due and (is_news or not due_before or due < due_before) then
    redis.pcall('PUBLISH', ARGV[2], string.format('%s %.0f %.0f', ARGV[3], now, due))
  end
  return { generation, now, due or -1, result }
end

-- Reads a lane's limits. Of one whose limits are lost nothing is claimed until they are pushed again.
local function read_limits(lane, limits)
  lane.limits = limits
  if #limits < LIMITS_SIZE then
    lane.cap, lane.interval, lane.tolerance, lane.ordered, lane.tenant = 0, 0, 0, false, ''
    return
  end
  local ordered
  lane.cap, lane.interval, lane.tolerance, ordered = struct.unpack(LIMITS, limits)
  lane.ordered, lane.tenant = ordered == 1, sub(limits, LIMITS_SIZE + 1)
  if lane.probed then
    lane.cap = min(lane.cap, 1)
  end
end

local function lane_of(id)
  local lane = lanes[id]
  if not lane then
    lane = {
      id = id,
      key = shard .. ':lane:' .. id,
      waiting = shard .. ':waiting:' .. id,
      line = shard .. ':line:' .. id,
      leased = shard .. ':leased:' .. id,
      heads = {},
      next_head = 1,
      read_heads = 1,
      taken = {},
      granted = {},
    }
    local fields = call('HMGET', lane.key, 'limits', 'lining', 'held', 'arrival', 'probed')
    lane.probed = tonumber(fields[5])
    if lane.probed and lane.probed <= now then
      lane.probed, lane.was_probed = nil, true
    end
    read_limits(lane, fields[1] or '')
    lane.lining = fields[2]
    lane.held = tonumber(fields[3]) or 0
    lane.arrival = tonumber(fields[4]) or 0
    lane.in_flight = call('HLEN', lane.leased)
    lanes[id] = lane
  end
  return lane
end

local function ring_of(tenant)
  return shard .. ':ring:' .. tenant
end

-- Does something to a lane. If one of its keys is of a wrong type somebody else wrote it: then the lane is
-- emptied, and the store's sweep pushes its jobs again.
local function on_lane(id, work, ...)
  local done, failure = pcall(function(...) work(lane_of(id), ...) end, ...)
  if done then
    return
  end
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  if not string.find(text, 'WRONGTYPE', 1, true) then
    -- `pcall` makes a text of it. A text would be sent without its code in front, by which the client knows what to do.
    error(type(failure) == 'table' and failure or { err = failure })
  end
  for _, kind in ipairs({ ':lane:', ':waiting:', ':line:', ':leased:' }) do
    call('UNLINK', shard .. kind .. id)
  end
  lanes[id] = nil
  work(lane_of(id), ...)
end

-- How long after its hold a lane is probed, in microseconds, unless it is released or held anew before. Who would release
-- it may have died with that; if it fails still, the next failure holds it.
local PROBED_FOR = 600000000

-- The job whose turn it is, and when it is due. What was taken is still there.
local function head_of(lane)
  if lane.next_head > #lane.heads and not lane.is_exhausted then
    local first = #lane.taken
    lane.next_head = 1
    if lane.ordered then
      local job = call('ZRANGE', lane.line, first, first)[1]
      lane.heads = job and { job, call('ZSCORE', lane.waiting, job) or 0 } or {}
    else
      lane.heads = call('ZRANGE', lane.waiting, first, first + lane.read_heads - 1, 'WITHSCORES')
      lane.is_exhausted = #lane.heads < 2 * lane.read_heads
      lane.read_heads = min(lane.read_heads * 4, MAX_HEADS)
    end
  end
  return lane.heads[lane.next_head], tonumber(lane.heads[lane.next_head + 1])
end

-- When the head may be claimed, and the head; nil if there is none, or the lane is at its cap.
local function eligible_at(lane)
  if lane.in_flight >= lane.cap then
    return nil
  end
  if lane.lining then
    return now
  end
  local job, due = head_of(lane)
  if not job then
    return nil
  end
  local conforms = lane.interval > 0 and lane.arrival - lane.tolerance or 0
  return max(due, lane.held, conforms), job, due
end

local function join_ring(lane)
  local tenant = lane.tenant
  local ring = in_ring[tenant]
  turn = turn + 1
  if not ring then
    ring = batch('ZADD', ring_of(tenant), 'NX')
    ring.joins = true
    in_ring[tenant] = ring
    local n = #in_turn
    in_turn[n + 1], in_turn[n + 2] = turn, tenant
  end
  local n = #ring
  ring[n + 1], ring[n + 2] = turn, lane.id
end

-- Puts a lane where it belongs. One in the ring stays there until its turn, which decides.
local function schedule(lane)
  local at = eligible_at(lane)
  if at and at > now then
    local n = #timed
    timed[n + 1], timed[n + 2] = at, lane.id
    return
  end
  untimed[#untimed + 1] = lane.id
  if at then
    join_ring(lane)
  end
end

-- Lets jobs wait in the order of their sequences, too: pairs of due time and job.
local function stand_in_line(lane, jobs)
  local line = {}
  for i = 2, #jobs, 2 do
    line[i - 1], line[i] = 0, jobs[i]
  end
  call('ZADD', lane.line, unpack(line))
end

-- Lets jobs wait that were under a lease: pairs of due time and job.
local function put_back(lane, jobs)
  if #jobs == 0 then
    return
  end
  call('ZADD', lane.waiting, unpack(jobs))
  if lane.ordered then
    stand_in_line(lane, jobs)
  end
end

-- A lane without jobs stays for as long as its hold, its rate or its probe says something.
local function forget_if_idle(lane)
  if call('EXISTS', lane.waiting, lane.leased) > 0 then
    return
  end
  emptied[#emptied + 1] = lane.id
  local keep = max(lane.held, lane.arrival) - now
  if lane.probed then
    keep = max(keep, lane.probed - now)
  end
  if keep > 0 then
    call('PEXPIRE', lane.key, math.ceil(keep / 1000))
  else
    forgotten[#forgotten + 1] = lane.key
  end
end

