-- Takes due jobs, fairly. ARGV: the limit, how long the leases last, the most jobs of any lane, and for lanes of which
-- that is another number their ids and these, and where the answer is kept for which request. Answers the end of the leases, the first one's fence, of which each next
-- one's is greater by one, for all of them lane and delivery, in one string, and, if there are fewer than asked for
-- because lanes were passed over: whether all of the ring was looked at, and when something else falls due, or -1;
-- and at last how many leases had ended that nobody had settled.
--
-- Looks at the ring alone: what is parked or held costs nothing. Every step is bounded; what is left over makes the
-- shard due at once, and the next call goes on.

local limit, ends = tonumber(ARGV[4]), after(tonumber(ARGV[5]))
local ROOM, ROOM_SIZE = '>c16H', 18
local room, rooms, full = tonumber(ARGV[6]), {}, 0
for i = 1, #ARGV[7], ROOM_SIZE do
  local id, own = struct.unpack(ROOM, ARGV[7], i)
  rooms[id] = own
  full = full + (own == 0 and 1 or 0)
end

-- A request whose connection broke is sent once more. Then what it got the first time is the answer: else that would
-- be under a lease that nobody knows of.
local ANSWER, ANSWER_SIZE = '>ddd', 24
local answer_key, request = shard .. ':answer:' .. ARGV[8], tonumber(ARGV[9])
local known = redis.pcall('GET', answer_key)
if type(known) == 'string' and #known > ANSWER_SIZE then
  local asked, until_then, its_fence, first = struct.unpack(ANSWER, known)
  if asked == request then
    return answer({ until_then, its_fence, sub(known, first), 0, -1, 0 })
  end
end

-- How many lanes are passed over at most, of each tenant.
local MAX_PASSED = 512
-- How many were, and whether there may be something for this claim beside them.
local passed, has_unseen = 0, false
-- How many leases are taken back, timers woken, and lanes looked at in vain.
local STEPS = 128
-- How many leases had ended that nobody had settled.
local reclaimed = 0
-- How many jobs are lined up by one claim when their lane becomes ordered.
local LINED_UP = 512
local has_lined_up = false

-- Greater than any that this shard has given or heard of, and not below the clock: so one that a lost shard gave,
-- and that the store has not seen, is in the past too. If this clock is behind that of the lost shard, and only
-- then, such a fence may be the greater. Then its owner, not this one, is whom the store believes: one attempt too
-- many, and never two that count.
local first_fence = max(fence + 1, clock)

local granted, visited, rings = {}, {}, {}
local leased, ended = batch('ZADD', leases), last_batch('ZREM', leases)

local function take_back(lane, deliveries)
  local jobs, found = {}, {}
  for k, entry in ipairs(call('HMGET', lane.leased, unpack(deliveries))) do
    -- One that cannot be read is forgotten: the store has it.
    if entry and #entry == LEASED_SIZE then
      local _, sequence, due = struct.unpack(LEASED, entry)
      local n = #jobs
      jobs[n + 1], jobs[n + 2] = due, sequence .. deliveries[k]
    end
    if entry then
      found[#found + 1] = deliveries[k]
    end
  end
  if #found > 0 then
    lane.in_flight = lane.in_flight - call('HDEL', lane.leased, unpack(found))
    reclaimed = reclaimed + #found
    put_back(lane, jobs)
    join_ring(lane)
  end
end

local function take_back_expired()
  local expired = shared('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, STEPS)
  local ids, by_lane = {}, {}
  for _, member in ipairs(expired) do
    ended[#ended + 1] = member
    local id = sub(member, 1, 16)
    if not by_lane[id] then
      by_lane[id] = {}
      ids[#ids + 1] = id
    end
    table.insert(by_lane[id], sub(member, 17))
  end
  for _, id in ipairs(ids) do
    on_lane(id, take_back, by_lane[id])
  end
end

local function wake_timers()
  for _, id in ipairs(shared('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, STEPS)) do
    untimed[#untimed + 1] = id
    on_lane(id, join_ring)
  end
end

-- Lines up some of the jobs that waited when the lane became ordered.
local function line_up(lane)
  local found = call('ZSCAN', lane.waiting, lane.lining, 'COUNT', LINED_UP)
  local jobs = {}
  for i = 1, #found[2], 2 do
    jobs[i], jobs[i + 1] = 0, found[2][i]
  end
  if #jobs > 0 then
    call('ZADD', lane.line, unpack(jobs))
  end
  lane.lining = found[1] ~= '0' and found[1]
  if lane.lining then
    call('HSET', lane.key, 'lining', lane.lining)
  else
    call('HDEL', lane.key, 'lining')
  end
end

local function room_of(id)
  return rooms[id] or room
end

-- Owns the lane's head.
local function grant(lane, job, due)
  local delivery = sub(job, 9)
  rooms[lane.id] = room_of(lane.id) - 1
  local owned = lane.id .. delivery
  fence = max(fence + 1, clock)
  lane.next_head = lane.next_head + 2
  lane.in_flight = lane.in_flight + 1
  lane.taken[#lane.taken + 1] = job
  local n = #lane.granted
  lane.granted[n + 1] = delivery
  lane.granted[n + 2] = struct.pack(LEASED, fence, sub(job, 1, 8), due, ends)
  if lane.interval > 0 then
    lane.arrival = max(lane.arrival, now) + lane.interval
  end
  n = #leased
  leased[n + 1], leased[n + 2] = ends, owned
  granted[#granted + 1] = owned
end

-- A lane's turn: one job, if it is eligible. Sets whether it may have another turn.
local function visit(lane)
  if not lane.turn then
    visited[#visited + 1] = lane
  end
  turn = turn + 1
  lane.turn = turn
  if lane.lining then
    if not has_lined_up then
      has_lined_up = true
      line_up(lane)
    end
    lane.is_done = true
    return
  end
  local at, job, due = eligible_at(lane)
  lane.is_done = not at or at > now
  if not lane.is_done then
    grant(lane, job, due)
    lane.is_done = room_of(lane.id) == 0
  end
end

-- Reads a tenant's ring. Its lanes begin with as many heads as are theirs if all take the same, and the next one.
local function ring_of_turn(tenant, tenants)
  local most = limit + min(full, MAX_PASSED)
  local found, ids, without_room = shared('ZRANGE', ring_of(tenant), 0, most - 1), {}, {}
  for _, id in ipairs(found) do
    local list = room_of(id) > 0 and ids or without_room
    list[#list + 1] = id
  end
  passed = passed + #without_room
  has_unseen = has_unseen or #found == most
  -- They keep their turns, unless nobody else would get one.
  if #without_room < most then
    without_room = {}
  end
  local heads = math.ceil(limit / (tenants * max(#ids, 1))) + 1
  return { ids = ids, at = 1, heads = heads, skipped = without_room }
end

-- The first visit is the one that finds a key of a wrong type.
local function take_turn(id, tenant, heads)
  local lane = lanes[id]
  if not lane or not lane.turn then
    on_lane(id, function(lane)
      lane.found_in = tenant
      lane.read_heads = max(min(heads, lane.cap - lane.in_flight + 1, room_of(id) + 1, MAX_HEADS), 1)
      visit(lane)
    end)
  else
    visit(lane)
  end
  return not lanes[id].is_done
end

-- Goes round the tenants and each one's lanes, in memory; what changed is written afterwards.
local function go_round()
  local most = limit + min(full, MAX_PASSED)
  local tenants = shared('ZRANGE', turns, 0, most - 1)
  local count = #tenants
  has_unseen = count == most
  local at, steps = 1, 0
  while at <= #tenants and #granted < limit and steps < limit + STEPS do
    local tenant = tenants[at]
    local ring = rings[tenant]
    if not ring then
      ring = ring_of_turn(tenant, count)
      rings[tenant] = ring
    end
    local id = ring.ids[ring.at]
    turn = turn + 1
    ring.turn = turn
    ring.at = ring.at + 1
    if id and take_turn(id, tenant, ring.heads) then
      ring.ids[#ring.ids + 1] = id
    end
    if ring.at <= #ring.ids then
      tenants[#tenants + 1] = tenant
    end
    at, steps = at + 1, steps + 1
  end
  has_unseen = has_unseen or at <= #tenants
end

-- Takes out of the lane's sets what was claimed: as many as were taken, from the front.
local function take_out(lane)
  if lane.ordered then
    call('ZREM', lane.waiting, unpack(lane.taken))
    call('ZREMRANGEBYRANK', lane.line, 0, #lane.taken - 1)
  else
    call('ZREMRANGEBYRANK', lane.waiting, 0, #lane.taken - 1)
  end
  call('HSET', lane.leased, unpack(lane.granted))
  if lane.interval > 0 then
    call('HSET', lane.key, 'arrival', lane.arrival)
  end
end

-- Where a lane that had its turn belongs.
local function place(lane, staying, leaving)
  local at = eligible_at(lane)
  if at and at <= now then
    local n = #staying
    staying[n + 1], staying[n + 2] = lane.turn, lane.id
    has_unseen = has_unseen or room_of(lane.id) > 0
    return
  end
  leaving[#leaving + 1] = lane.id
  if at then
    local n = #timed
    timed[n + 1], timed[n + 2] = at, lane.id
  else
    untimed[#untimed + 1] = lane.id
  end
end

take_back_expired()
wake_timers()
flush()
go_round()
for tenant, ring in pairs(rings) do
  ring.staying = batch('ZADD', ring_of(tenant))
  ring.leaving = batch('ZREM', ring_of(tenant))
  for _, id in ipairs(ring.skipped) do
    turn = turn + 1
    local n = #ring.staying
    ring.staying[n + 1], ring.staying[n + 2] = turn, id
  end
end
for _, lane in ipairs(visited) do
  local ring = rings[lane.found_in]
  place(lane, ring.staying, ring.leaving)
  if #lane.taken > 0 then
    take_out(lane)
  end
end
flush()
for tenant, ring in pairs(rings) do
  if call('EXISTS', ring_of(tenant)) == 1 then
    call('ZADD', turns, ring.turn, tenant)
  else
    call('ZREM', turns, tenant)
  end
end
if #granted > 0 then
  local kept = struct.pack(ANSWER, request, ends, first_fence) .. table.concat(granted)
  -- For as long as it is worth something.
  call('SET', answer_key, kept, 'PX', math.max(math.ceil(tonumber(ARGV[5]) / 1000), 1))
end
local NOT_PASSED, PASSED_SOME, PASSED_ALL = 0, 1, 2
local rest, timer = NOT_PASSED, nil
if passed > 0 and #granted < limit then
  call('HSET', shard, 'passed', 1)
  rest, timer = has_unseen and PASSED_SOME or PASSED_ALL, next_timer()
end
return answer({ ends, first_fence, table.concat(granted), rest, timer or -1, reclaimed })
