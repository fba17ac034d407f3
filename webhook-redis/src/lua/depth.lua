-- What waits in some of the lanes: ready, parked and leased jobs, and when the first of the
-- lanes becomes or became eligible, or -1. ARGV: where to go on, '0' at first. Answers this before the rest, '0' when there is no more.

-- How many lanes are counted at once.
local PAGE = 250

local ready, parked, leased, oldest = 0, 0, 0, NEVER
local found = shared('SSCAN', filled, ARGV[4], 'COUNT', PAGE)
for _, id in ipairs(found[2]) do
  on_lane(id, function(lane)
    if call('EXISTS', lane.waiting) == 1 then
      local is_due = call('ZCOUNT', lane.waiting, '-inf', now)
      ready, parked = ready + is_due, parked + call('ZCARD', lane.waiting) - is_due
      oldest = min(oldest, eligible_at(lane) or NEVER)
    elseif lane.in_flight == 0 then
      emptied[#emptied + 1] = id
    end
    leased = leased + lane.in_flight
  end)
end
return answer({ found[1], ready, parked, leased, oldest < NEVER and oldest or -1 })
