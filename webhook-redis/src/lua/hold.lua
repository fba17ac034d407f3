-- Lets nothing of a lane be claimed for a time, or for what is left of a longer hold. ARGV: the lane, and how long.

on_lane(ARGV[4], function(lane)
  lane.held = max(lane.held, after(tonumber(ARGV[5])))
  call('HSET', lane.key, 'held', lane.held)
  schedule(lane)
  forget_if_idle(lane)
end)
return answer({})
