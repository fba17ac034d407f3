-- What the other scripts begin with: a shard's lanes. The rules are those of the memory backend, `memory/lanes.rs`.
--
-- A script touches one shard. KEYS are the keys of the shard as a whole; those of its lanes and tenants are made
-- from KEYS[1] and so carry the same hash tag, which is what a cluster asks for: they are in the same slot.
--
--   {p:s}                 hash: generation, server, fence (the greatest so far), turn (the last one given)
--   {p:s}:turns           tenants with lanes in the ring, by turn
--   {p:s}:timers          lanes that become eligible later, by when
--   {p:s}:leases          lane .. delivery, by the end of the lease
--   {p:s}:due             unclaimed deliveries, by due time: what `depth` counts
--   {p:s}:ring:<tenant>   lanes that may be eligible now, by turn
--   {p:s}:lane:<lane>     hash: tenant, limits, hold, arrival
--   {p:s}:waiting:<lane>  sequence .. delivery, by due time
--   {p:s}:line:<lane>     the same by sequence, in an ordered lane only
--   {p:s}:leased:<lane>   hash: delivery -> sequence, fence, due, until
--
-- Where a lane is (ring, timers, nowhere) and what it has in flight is written nowhere but in these sets. So a set
-- that is lost is made good by the next push of the same jobs.
--
-- ARGV: now in microseconds or '', the channel, who announces for which shard, and then the script's own.

local shard, turns, timers, leases, dues = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call

-- 2^53: until the year 2255 a double counts every microsecond.
local NEVER = 9007199254740992
-- A job under a lease: sequence, fence, due, until.
local LEASED = '>c8ddd'

local time = call('TIME')
local clock = time[1] * 1000000 + time[2]
local now = tonumber(ARGV[1]) or clock

local state = call('HMGET', shard, 'generation', 'fence', 'turn')
local generation = state[1] or string.format('%.0f', clock)
local fence = tonumber(state[2]) or 0
local turn = tonumber(state[3]) or 0

-- The most heads of a lane that are read at once.
local MAX_HEADS = 64

local lanes = {}
-- Tenants that have their turn already.
local in_turn = {}

local function after(by)
  return math.min(now + by, NEVER)
end

-- When a claim may find something; `now` if at once.
local function next_due()
  if call('EXISTS', turns) == 1 then
    return now
  end
  local lane = tonumber(call('ZRANGE', timers, 0, 0, 'WITHSCORES')[2])
  local lease = tonumber(call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2])
  local first = math.min(lane or NEVER, lease or NEVER)
  return (lane or lease) and math.max(first, now)
end

local due_before = next_due()

-- Every script's reply. Others hear of it only if there is something to claim sooner than they believe.
local function answer(result)
  if not state[1] or fence ~= tonumber(state[2]) or turn ~= tonumber(state[3]) then
    call('HSET', shard, 'generation', generation, 'fence', fence, 'turn', turn)
  end
  local due = next_due()
  if due and (not due_before or due < due_before) then
    redis.pcall('PUBLISH', ARGV[2], string.format('%s %.0f %.0f', ARGV[3], now, due))
  end
  return { generation, now, due or -1, result }
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
      -- One to claim, and one to see what is next; more, if a claim takes more.
      read_heads = 2,
      taken = {},
      granted = {},
    }
    local fields = call('HMGET', lane.key,
      'tenant', 'cap', 'interval', 'tolerance', 'ordered', 'lining', 'held', 'arrival')
    lane.tenant = fields[1] or ''
    -- Of a lane whose limits are lost nothing is claimed until they are pushed again.
    lane.cap = tonumber(fields[2]) or 0
    lane.interval = tonumber(fields[3]) or 0
    lane.tolerance = tonumber(fields[4]) or 0
    lane.ordered = fields[5] == '1'
    lane.lining = fields[6]
    lane.held = tonumber(fields[7]) or 0
    lane.arrival = tonumber(fields[8]) or 0
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
local function on_lane(id, work)
  local done, failure = pcall(function() work(lane_of(id)) end)
  if done then
    return
  end
  local text = type(failure) == 'table' and failure.err or tostring(failure)
  if not string.find(text, 'WRONGTYPE', 1, true) then
    error(failure)
  end
  for _, kind in ipairs({ ':lane:', ':waiting:', ':line:', ':leased:' }) do
    call('UNLINK', shard .. kind .. id)
  end
  lanes[id] = nil
  work(lane_of(id))
end

-- Takes what was claimed out of the lane's sets.
local function take_out(lane)
  if #lane.taken > 0 then
    call('ZREM', lane.waiting, unpack(lane.taken))
    if lane.ordered then
      call('ZREM', lane.line, unpack(lane.taken))
    end
    lane.taken = {}
  end
end

-- The job whose turn it is, and when it is due.
local function head_of(lane)
  if lane.next_head > #lane.heads then
    take_out(lane)
    lane.next_head = 1
    if lane.ordered then
      local job = call('ZRANGE', lane.line, 0, 0)[1]
      lane.heads = job and { job, call('ZSCORE', lane.waiting, job) or 0 } or {}
    else
      lane.heads = call('ZRANGE', lane.waiting, 0, lane.read_heads - 1, 'WITHSCORES')
      lane.read_heads = math.min(lane.read_heads * 4, MAX_HEADS)
    end
  end
  return lane.heads[lane.next_head], tonumber(lane.heads[lane.next_head + 1])
end

-- When the head may be claimed; nil if there is none, or the lane is at its cap.
local function eligible_at(lane)
  if lane.in_flight >= lane.cap then
    return nil
  end
  if lane.lining then
    return now
  end
  local job, due = head_of(lane)
  local conforms = lane.interval > 0 and lane.arrival - lane.tolerance or 0
  return job and math.max(due, lane.held, conforms)
end

local function join_ring(lane)
  turn = turn + 1
  call('ZADD', ring_of(lane.tenant), 'NX', turn, lane.id)
  if not in_turn[lane.tenant] then
    in_turn[lane.tenant] = true
    call('ZADD', turns, 'NX', turn, lane.tenant)
  end
end

-- Puts a lane where it belongs. One in the ring stays there until its turn, which decides.
local function schedule(lane)
  local at = eligible_at(lane)
  if at and at > now then
    call('ZADD', timers, at, lane.id)
    return
  end
  call('ZREM', timers, lane.id)
  if at then
    join_ring(lane)
  end
end

-- Lets a job wait that was under a lease.
local function put_back(lane, job, due)
  call('ZADD', lane.waiting, due, job)
  call('ZADD', dues, due, string.sub(job, 9))
  if lane.ordered then
    call('ZADD', lane.line, 0, job)
  end
end

-- Ends a lease whose entry this is; answers its job and when that was due.
local function end_lease(lane, delivery, entry)
  local sequence, _, due = struct.unpack(LEASED, entry)
  call('HDEL', lane.leased, delivery)
  call('ZREM', leases, lane.id .. delivery)
  lane.in_flight = lane.in_flight - 1
  return sequence .. delivery, due
end

-- A lane without jobs stays for as long as its hold or its rate says something.
local function forget_if_idle(lane)
  if call('EXISTS', lane.waiting, lane.leased) > 0 then
    return
  end
  local keep = math.max(lane.held, lane.arrival) - now
  if keep > 0 then
    call('PEXPIRE', lane.key, math.ceil(keep / 1000))
  else
    call('DEL', lane.key)
  end
end

