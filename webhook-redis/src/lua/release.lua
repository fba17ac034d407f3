-- Ends a hold. ARGV: the lane. It goes to the ring, where its turn decides.

on_lane(ARGV[4], function(lane)
  call('HDEL', lane.key, 'held')
  lane.held = 0
  if call('EXISTS', lane.waiting) == 1 then
    untimed[#untimed + 1] = lane.id
    join_ring(lane)
  end
end)
return answer({})
