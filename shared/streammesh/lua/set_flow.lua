#!lua flags=allow-oom
-- Sets limits of a subscription in place of those of its manifest, or takes them back; the dispatchers act on it.
-- KEYS flow (HASH, of its limits), flows (SET)
-- ARGS name (of the task), changes (JSON: limits by name, null to take one back), changed (channel)
-- Returns what is set now (JSON).
--#include _write.lua
local stored = write('HGET', flow, 'set')
local read, set = pcall(cjson.decode, stored or '{}')
if not read or type(set) ~= 'table' then set = {} end
for limit, value in pairs(cjson.decode(changes)) do
  if value == cjson.null then set[limit] = nil else set[limit] = value end
end
if next(set) == nil then
  write('HDEL', flow, 'set')
  redis.call('PUBLISH', changed, 'flow')
  return '{}'
end
local text = cjson.encode(set)
write('HSET', flow, 'set', text)
write('SADD', flows, name)
redis.call('PUBLISH', changed, 'flow')
return text
