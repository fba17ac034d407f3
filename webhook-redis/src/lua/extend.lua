-- Lets leases last. ARGV: for how long from now, and for each lease its lane, delivery and fence. Answers the new
-- end, and for each lease whether it still stood.

local ends = after(tonumber(ARGV[4]))
local lasting = batch('ZADD', leases)
local stood = {}
for i = 5, #ARGV, 3 do
  local kept = 0
  on_lane(ARGV[i], function(lane)
    local entry = call('HGET', lane.leased, ARGV[i + 1])
    if not entry then
      return
    end
    local current, sequence, due = struct.unpack(LEASED, entry)
    if current == tonumber(ARGV[i + 2]) then
      call('HSET', lane.leased, ARGV[i + 1], struct.pack(LEASED, current, sequence, due, ends))
      local n = #lasting
      lasting[n + 1], lasting[n + 2] = ends, lane.id .. ARGV[i + 1]
      kept = 1
    end
  end)
  stood[#stood + 1] = kept
end
return answer({ ends, stood })
