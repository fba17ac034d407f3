-- Ends leases, lane by lane. ARGV: for each lane its id, their count, how they end, and then as often the delivery.
-- How each one ends is its fence, 0 for done, 1 if it was attempted or 2 if not, and after what time it is due again.

local FATE, FATE_SIZE = '>dBd', 17
local DONE, UNUSED = 0, 2

local ended = batch('ZREM', leases)

local function settle(lane, fates, first, count)
  local last = first + count - 1
  local entries = call('HMGET', lane.leased, unpack(ARGV, first, last))
  local was_at_cap, unused = lane.in_flight >= lane.cap, 0
  local deliveries, jobs, seen = {}, {}, {}
  for k = 1, count do
    local delivery, entry = ARGV[first + k - 1], entries[k]
    local its_fence, how, by = struct.unpack(FATE, fates, FATE_SIZE * (k - 1) + 1)
    if entry and not seen[delivery] and struct.unpack('>d', entry) == its_fence then
      seen[delivery] = true
      deliveries[#deliveries + 1] = delivery
      ended[#ended + 1] = lane.id .. delivery
      if how ~= DONE then
        local n = #jobs
        jobs[n + 1], jobs[n + 2] = after(by), sub(entry, 9, 16) .. delivery
      end
      if how == UNUSED then
        unused = unused + 1
      end
    end
  end
  if #deliveries == 0 then
    return
  end
  lane.in_flight = lane.in_flight - call('HDEL', lane.leased, unpack(deliveries))
  put_back(lane, jobs)
  if unused > 0 and lane.interval > 0 then
    lane.arrival = lane.arrival - unused * lane.interval
    call('HSET', lane.key, 'arrival', lane.arrival)
  end
  -- Then it may have become eligible. One whose probe ended meanwhile was at its cap until then.
  if was_at_cap or lane.was_probed or #jobs > 0 then
    schedule(lane)
  end
  if lane.in_flight == 0 then
    forget_if_idle(lane)
  end
end

local i = 4
while i <= #ARGV do
  local first, count = i + 3, tonumber(ARGV[i + 1])
  on_lane(ARGV[i], settle, ARGV[i + 2], first, count)
  i = first + count
end
return answer({})
