-- What waits: ready, parked and leased jobs, and when the earliest unclaimed one is or was due, or -1.

local ready = call('ZCOUNT', dues, '-inf', now)
local oldest = call('ZRANGE', dues, 0, 0, 'WITHSCORES')[2]
return answer({ ready, call('ZCARD', dues) - ready, call('ZCARD', leases), tonumber(oldest) or -1 })
