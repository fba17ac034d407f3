-- Ends leases. ARGV: for each lease its lane, delivery and fence, how it ends ('done', 'after' or 'unused'), and
-- after what time the job is due again.

local touched = {}
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
    local job = end_lease(lane, delivery, entry)
    if how ~= 'done' then
      put_back(lane, job, after(tonumber(ARGV[i + 4])))
    end
    if how == 'unused' and lane.interval > 0 then
      lane.arrival = lane.arrival - lane.interval
      call('HSET', lane.key, 'arrival', lane.arrival)
    end
    touched[lane.id] = true
  end)
end
for id in pairs(touched) do
  on_lane(id, function(lane)
    schedule(lane)
    forget_if_idle(lane)
  end)
end
return answer({})
