-- What waits in some of the lanes: ready, parked and leased jobs, and when the earliest unclaimed one of a
-- lane that is not held is or was due, or -1. ARGV: where to go on, '0' at first. Answers this before the rest, '0' when there is no more.

-- How many lanes are counted at once.
local PAGE = 250

local ready, parked, leased, oldest = 0, 0, 0, NEVER
local found = shared('SSCAN', filled, ARGV[4], 'COUNT', PAGE)
for _, id in ipairs(found[2]) do
  on_lane(id, function(lane)
    local head, due = unpack(call('ZRANGE', lane.waiting, 0, 0, 'WITHSCORES'))
    if head then
      local is_due = call('ZCOUNT', lane.waiting, '-inf', now)
      ready, parked = ready + is_due, parked + call('ZCARD', lane.waiting) - is_due
      if lane.held <= now then
        oldest = min(oldest, tonumber(due))
      end
    elseif lane.in_flight == 0 then
      emptied[#emptied + 1] = id
    end
    leased = leased + lane.in_flight
  end)
end
return answer({ found[1], ready, parked, leased, oldest < NEVER and oldest or -1 })
