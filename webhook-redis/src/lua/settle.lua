-- Ends leases. ARGV: for each lease its lane, delivery and fence, how it ends ('done', 'after' or 'unused'), and
-- after what time the job is due again.

-- Lanes that may have become eligible: those that were at their cap, or got a job or a turn back.
local changed = {}
local ended = {}
for i = 4, #ARGV, 5 do
  on_lane(ARGV[i], function(lane)
    local delivery, how = ARGV[i + 1], ARGV[i + 3]
    local entry = call('HGET', lane.leased, delivery)
    if not entry then
      return
    end
    local _, current = struct.unpack(LEASED, entry)
    if current ~= tonumber(ARGV[i + 2]) then
      return
    end
    ended[lane.id] = true
    changed[lane.id] = changed[lane.id] or how ~= 'done' or lane.in_flight >= lane.cap
    local job = end_lease(lane, delivery, entry)
    if how ~= 'done' then
      put_back(lane, job, after(tonumber(ARGV[i + 4])))
    end
    if how == 'unused' and lane.interval > 0 then
      lane.arrival = lane.arrival - lane.interval
      call('HSET', lane.key, 'arrival', lane.arrival)
    end
  end)
end
for id in pairs(ended) do
  on_lane(id, function(lane)
    if changed[id] then
      schedule(lane)
    end
    if lane.in_flight == 0 then
      forget_if_idle(lane)
    end
  end)
end
return answer({})
