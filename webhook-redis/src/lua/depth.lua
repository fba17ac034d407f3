-- What waits in some of the lanes: ready, parked and leased jobs, and when the first of the
-- lanes becomes or became eligible, or -1. ARGV: where to go on, '0' at first. Answers this before the rest, '0' when there is no more.

-- How many lanes are counted at once.
local PAGE = 250

-- As `eligible_at`, also of a lane that is not in line yet: its head is then looked for among the jobs due first.
local function when_eligible(lane)
  if not lane.lining or lane.in_flight >= lane.cap then
    return eligible_at(lane)
  end
  local jobs = call('ZRANGE', lane.waiting, 0, PAGE - 1, 'WITHSCORES')
  local head, due = jobs[1], jobs[2]
  for i = 3, #jobs, 2 do
    if jobs[i] < head then
      head, due = jobs[i], jobs[i + 1]
    end
  end
  local conforms = lane.interval > 0 and lane.arrival - lane.tolerance or 0
  return max(tonumber(due), lane.held, conforms)
end

local ready, parked, leased, oldest = 0, 0, 0, NEVER
local found = shared('SSCAN', filled, ARGV[4], 'COUNT', PAGE)
for _, id in ipairs(found[2]) do
  on_lane(id, function(lane)
    if call('EXISTS', lane.waiting) == 1 then
      local is_due = call('ZCOUNT', lane.waiting, '-inf', now)
      ready, parked = ready + is_due, parked + call('ZCARD', lane.waiting) - is_due
      oldest = min(oldest, when_eligible(lane) or NEVER)
    elseif lane.in_flight == 0 then
      emptied[#emptied + 1] = id
    end
    leased = leased + lane.in_flight
  end)
end
return answer({ found[1], ready, parked, leased, oldest < NEVER and oldest or -1 })
