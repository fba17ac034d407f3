-- Confirms the generation. A server that is not the one that confirmed it last has restarted from a file, or was a
-- replica: what it remembers may be old, which is as good as lost.

local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
local last = call('HGET', shard, 'server')
if server and server ~= last then
  call('HSET', shard, 'server', server)
  if last then
    generation = string.format('%.0f', clock)
    call('HSET', shard, 'generation', generation)
  end
end
return answer({})
