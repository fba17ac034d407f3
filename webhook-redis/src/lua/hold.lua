-- Lets nothing of a lane be claimed for a time, or for what is left of a longer hold. ARGV: the lane, how long, and 1 if
-- it is probed then.

on_lane(ARGV[4], function(lane)
  lane.held = max(lane.held, after(tonumber(ARGV[5])))
  call('HSET', lane.key, 'held', lane.held)
  if ARGV[6] == '1' then
    lane.probed = lane.held + PROBED_FOR
    call('HSET', lane.key, 'probed', lane.probed)
    read_limits(lane, lane.limits)
  end
  schedule(lane)
  forget_if_idle(lane)
end)
return answer({})
