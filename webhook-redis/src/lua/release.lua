-- Ends a hold, and a probe. ARGV: the lane. It goes to the ring, where its turn decides.

on_lane(ARGV[4], function(lane)
  call('HDEL', lane.key, 'held', 'probed')
  lane.held, lane.probed = 0, false
  read_limits(lane, lane.limits)
  if call('EXISTS', lane.waiting) == 1 then
    untimed[#untimed + 1] = lane.id
    join_ring(lane)
  end
  forget_if_idle(lane)
end)
return answer({})
