-- Takes due jobs, fairly. ARGV: the limit, and how long the leases last. Answers the end of the leases, and for
-- each of them lane, delivery and fence.
--
-- Looks at the ring alone: what is parked or held costs nothing. Every step is bounded; what is left over makes the
-- shard due at once, and the next call goes on.

local limit, ends = tonumber(ARGV[4]), after(tonumber(ARGV[5]))
-- How many leases are taken back, timers woken, and lanes looked at in vain.
local STEPS = 128
-- How many jobs of a lane are lined up at once when it becomes ordered.
local LINED_UP = 512

local granted, lease_scores, deliveries = {}, {}, {}
local rings, visited = {}, {}

local function take_back_expired()
  for _, member in ipairs(call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, STEPS)) do
    call('ZREM', leases, member)
    on_lane(string.sub(member, 1, 16), function(lane)
      local delivery = string.sub(member, 17)
      local entry = call('HGET', lane.leased, delivery)
      if entry then
        put_back(lane, end_lease(lane, delivery, entry))
        join_ring(lane)
      end
    end)
  end
end

local function wake_timers()
  for _, id in ipairs(call('ZRANGEBYSCORE', timers, '-inf', now, 'LIMIT', 0, STEPS)) do
    call('ZREM', timers, id)
    on_lane(id, join_ring)
  end
end

-- Lines up some of the jobs that waited when the lane became ordered.
local function line_up(lane)
  local found = call('ZSCAN', lane.waiting, lane.lining, 'COUNT', LINED_UP)
  for i = 1, #found[2], 2 do
    call('ZADD', lane.line, 0, found[2][i])
  end
  lane.lining = found[1] ~= '0' and found[1]
  if lane.lining then
    call('HSET', lane.key, 'lining', lane.lining)
  else
    call('HDEL', lane.key, 'lining')
  end
end

-- Owns the lane's head. The fence is greater than any that this shard has given or heard of, and not below the
-- clock: so one that a lost shard gave, and that the store has not seen, is in the past too. If this clock is behind
-- that of the lost shard, and only then, such a fence may be the greater. Then its owner, not this one, is whom
-- the store believes: one attempt too many, and never two that count.
local function grant(lane, job, due)
  local delivery = string.sub(job, 9)
  fence = math.max(fence + 1, clock)
  lane.next_head = lane.next_head + 2
  lane.in_flight = lane.in_flight + 1
  lane.taken[#lane.taken + 1] = job
  local n = #lane.granted
  lane.granted[n + 1] = delivery
  lane.granted[n + 2] = struct.pack(LEASED, string.sub(job, 1, 8), fence, due, ends)
  if lane.interval > 0 then
    lane.arrival = math.max(lane.arrival, now) + lane.interval
  end
  n = #granted
  granted[n + 1], granted[n + 2], granted[n + 3] = lane.id, delivery, fence
  deliveries[#deliveries + 1] = delivery
  n = #lease_scores
  lease_scores[n + 1], lease_scores[n + 2] = ends, lane.id .. delivery
end

-- A lane's turn: one job, if it is eligible. Answers whether it may have another turn.
local function visit(lane)
  if not lane.turn then
    visited[#visited + 1] = lane
  end
  turn = turn + 1
  lane.turn = turn
  if lane.lining then
    line_up(lane)
    return true
  end
  local at = eligible_at(lane)
  if not at or at > now then
    return false
  end
  local job, due = head_of(lane)
  grant(lane, job, due)
  return true
end

-- Goes round the tenants and each one's lanes, in memory; what changed is written afterwards.
local function go_round()
  local tenants = call('ZRANGE', turns, 0, limit - 1)
  local at, steps = 1, 0
  while at <= #tenants and #deliveries < limit and steps < limit + STEPS do
    local tenant = tenants[at]
    local ring = rings[tenant]
    if not ring then
      ring = { ids = call('ZRANGE', ring_of(tenant), 0, limit - 1), at = 1 }
      rings[tenant] = ring
    end
    local id = ring.ids[ring.at]
    turn = turn + 1
    ring.turn = turn
    ring.at = ring.at + 1
    if id then
      on_lane(id, function(lane)
        if visit(lane) then
          ring.ids[#ring.ids + 1] = id
        end
      end)
    end
    if ring.at <= #ring.ids then
      tenants[#tenants + 1] = tenant
    end
    at, steps = at + 1, steps + 1
  end
end

local function write_lane(lane)
  take_out(lane)
  if #lane.granted > 0 then
    call('HSET', lane.leased, unpack(lane.granted))
    if lane.interval > 0 then
      call('HSET', lane.key, 'arrival', lane.arrival)
    end
  end
  local at = eligible_at(lane)
  if at and at <= now then
    call('ZADD', ring_of(lane.tenant), lane.turn, lane.id)
    return
  end
  call('ZREM', ring_of(lane.tenant), lane.id)
  if at then
    call('ZADD', timers, at, lane.id)
  else
    call('ZREM', timers, lane.id)
  end
end

take_back_expired()
wake_timers()
go_round()
for _, lane in ipairs(visited) do
  write_lane(lane)
end
for tenant, ring in pairs(rings) do
  if call('EXISTS', ring_of(tenant)) == 1 then
    call('ZADD', turns, ring.turn, tenant)
  else
    call('ZREM', turns, tenant)
  end
end
if #deliveries > 0 then
  call('ZADD', leases, unpack(lease_scores))
  call('ZREM', dues, unpack(deliveries))
end
return answer({ ends, granted })
