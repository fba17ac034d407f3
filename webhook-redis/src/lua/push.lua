-- Adds jobs, lane by lane. ARGV: for each lane its id, its limits, the greatest fence of its jobs and their count, and
-- then as often the due time and the job (sequence .. delivery).

local known = batch('SADD', filled)
local remembered = batch('ZADD', leases, 'NX')
-- How many leases of a lane at its cap are looked after: of a greater cap some each time, at random.
local LOOKED_AFTER = 8

-- How much later than the store says a job may be due, in microseconds. More than that is of a clock that has gone back.
local DUE_SLACK = 1000000

local function set_limits(lane, limits)
  if lane.limits == limits then
    return
  end
  local was_ordered = lane.ordered
  read_limits(lane, limits)
  if lane.ordered ~= was_ordered then
    call('UNLINK', lane.line)
    call('HDEL', lane.key, 'lining')
    lane.lining = false
    -- Those that wait already are lined up by claims, some at a time.
    if lane.ordered and call('EXISTS', lane.waiting) == 1 then
      lane.lining = '0'
      call('HSET', lane.key, 'lining', '0')
    end
  end
  call('HSET', lane.key, 'limits', limits)
  -- What was spent at another rate does not keep the lane back longer than one turn of the new.
  if lane.arrival > now + lane.interval then
    lane.arrival = now + lane.interval
    call('HSET', lane.key, 'arrival', lane.arrival)
  end
end

-- Nobody pushes what has ended in the store. So a lease of it that nobody takes back any more, as it is lost among
-- those of the shard, would count against the cap for ever.
local function remember_leases(lane)
  local some = call('HRANDFIELD', lane.leased, LOOKED_AFTER, 'WITHVALUES')
  for i = 1, #some, 2 do
    local is_whole = #some[i + 1] == LEASED_SIZE
    local n = #remembered
    remembered[n + 1] = is_whole and select(4, struct.unpack(LEASED, some[i + 1])) or now
    remembered[n + 2] = lane.id .. some[i]
  end
end

-- Those of the jobs that are not under a lease, with their due times.
local function unleased_of(lane, first, last)
  if lane.in_flight == 0 then
    return { unpack(ARGV, first, last) }
  end
  local deliveries, jobs = {}, {}
  for i = first + 1, last, 2 do
    deliveries[#deliveries + 1] = sub(ARGV[i], 9)
  end
  for k, entry in ipairs(call('HMGET', lane.leased, unpack(deliveries))) do
    if entry then
      local _, _, _, ends = struct.unpack(LEASED, entry)
      local n = #remembered
      remembered[n + 1], remembered[n + 2] = ends, lane.id .. deliveries[k]
    else
      local n, i = #jobs, first + 2 * k - 2
      jobs[n + 1], jobs[n + 2] = ARGV[i], ARGV[i + 1]
    end
  end
  return jobs
end

-- Lets jobs that wait for too long fall due about when the store says.
local function bring_forward(lane, jobs)
  local latest = {}
  for i = 1, #jobs, 2 do
    latest[i], latest[i + 1] = min(tonumber(jobs[i]) + DUE_SLACK, NEVER), jobs[i + 1]
  end
  call('ZADD', lane.waiting, 'XX', 'LT', unpack(latest))
end

local function add(lane, jobs)
  if #jobs == 0 then
    return
  end
  local added = call('ZADD', lane.waiting, 'NX', unpack(jobs))
  if 2 * added < #jobs then
    bring_forward(lane, jobs)
  end
  if lane.ordered then
    stand_in_line(lane, jobs)
  elseif 2 * added == #jobs and tonumber(jobs[1]) <= now then
    -- If this one is due the head is, whichever that is.
    lane.heads = { jobs[2], jobs[1] }
  end
end

local function push(lane, limits, first, last)
  -- An idle lane that its hold or its rate keeps alive is about to be forgotten.
  if lane.in_flight == 0 and max(lane.held, lane.arrival) > 0 then
    call('PERSIST', lane.key)
  end
  set_limits(lane, limits)
  add(lane, unleased_of(lane, first, last))
  if lane.in_flight > 0 and lane.in_flight >= lane.cap then
    remember_leases(lane)
  end
  known[#known + 1] = lane.id
  schedule(lane)
end

local i = 4
while i <= #ARGV do
  local first = i + 4
  local last = first + 2 * ARGV[i + 3] - 1
  -- A greater one comes from a lease that this shard does not remember.
  fence = max(fence, tonumber(ARGV[i + 2]))
  on_lane(ARGV[i], push, ARGV[i + 1], first, last)
  i = last + 1
end
return answer({})
