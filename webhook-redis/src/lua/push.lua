-- Adds jobs, lane by lane. ARGV: for each lane its id, tenant, cap, interval, tolerance, ordered ('1' or '0') and
-- count, and then as often the job (sequence .. delivery), its due time and its fence.

local function set_limits(lane, tenant, cap, interval, tolerance, ordered)
  if lane.tenant == tenant and lane.cap == cap and lane.interval == interval
    and lane.tolerance == tolerance and lane.ordered == ordered then
    return
  end
  if lane.ordered ~= ordered then
    call('UNLINK', lane.line)
    call('HDEL', lane.key, 'lining')
    lane.lining = false
    -- Those that wait already are lined up by claims, some at a time.
    if ordered and call('EXISTS', lane.waiting) == 1 then
      lane.lining = '0'
      call('HSET', lane.key, 'lining', '0')
    end
  end
  -- What was spent at another rate does not keep the lane back longer than one turn of the new.
  lane.arrival = math.min(lane.arrival, now + interval)
  lane.tenant, lane.cap, lane.interval, lane.tolerance = tenant, cap, interval, tolerance
  lane.ordered = ordered
  call('HSET', lane.key, 'tenant', tenant, 'cap', cap, 'interval', interval, 'tolerance', tolerance,
    'ordered', ordered and '1' or '0', 'arrival', lane.arrival)
end

-- The entries of those of the jobs that are under a lease.
local function leased_of(lane, first, last)
  if lane.in_flight == 0 then
    return {}
  end
  local deliveries = {}
  for i = first, last, 3 do
    deliveries[#deliveries + 1] = string.sub(ARGV[i], 9)
  end
  return call('HMGET', lane.leased, unpack(deliveries))
end

local function add(lane, first, last)
  local leased = leased_of(lane, first, last)
  local waiting, line, due = {}, {}, {}
  for i = first, last, 3 do
    local job, entry = ARGV[i], leased[(i - first) / 3 + 1]
    -- A greater one comes from a lease that this shard does not remember.
    fence = math.max(fence, tonumber(ARGV[i + 2]))
    if entry then
      local _, _, _, ends = struct.unpack(LEASED, entry)
      call('ZADD', leases, 'NX', ends, lane.id .. string.sub(job, 9))
    else
      local n = #waiting
      waiting[n + 1], waiting[n + 2] = ARGV[i + 1], job
      due[n + 1], due[n + 2] = ARGV[i + 1], string.sub(job, 9)
      line[n + 1], line[n + 2] = 0, job
    end
  end
  if #waiting == 0 then
    return
  end
  call('ZADD', lane.waiting, 'NX', unpack(waiting))
  call('ZADD', dues, 'NX', unpack(due))
  if lane.ordered then
    call('ZADD', lane.line, 'NX', unpack(line))
  end
end

local i = 4
while i <= #ARGV do
  local first = i + 7
  local last = first + 3 * ARGV[i + 6] - 1
  on_lane(ARGV[i], function(lane)
    set_limits(lane, ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]),
      ARGV[i + 5] == '1')
    if lane.in_flight == 0 then
      call('PERSIST', lane.key)
    end
    add(lane, first, last)
    schedule(lane)
  end)
  i = last + 1
end
return answer({})
