-- What was published and has not yet come to the runs of a service that wait for it.
--#include _entry.lua
--#include _groups.lua

-- Whether an event that was published by the moment `last` may still be on its way: it is not handed over yet, or the task
-- that wakes runs by it has not ended.
local function is_on_its_way(stream, routed, waking, service, last)
  if #write('ZRANGEBYSCORE', waking, '-inf', last, 'LIMIT', 0, 1) > 0 then return true end
  local newest, known = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1), redis.pcall('HMGET', routed, service, ':at')
  if newest.err or known.err or not newest[1] then return false end
  local at = known[1] and known[2]
  if not at then  -- its own lane reads for it
    local about = group_of(stream, service)
    if about then
      at = about['last-delivered-id']
      local held = about.pending > 0 and redis.pcall('XPENDING', stream, service)
      if held and not held.err and tonumber(moment(held[2] or '') or '') then return tonumber(moment(held[2])) <= tonumber(last) end
    end
  end
  if not at or at == newest[1][1] then return false end
  return tonumber(moment(at) or last) < tonumber(last)
end
