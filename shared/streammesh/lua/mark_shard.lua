#!lua flags=allow-oom
-- Notes once which shard of which mesh lies here, by the server's clock, and says what is noted.
-- KEYS format (HASH; fields shards, shard, birth, since, whole, moved, filling)
-- ARGS shards (of the mesh; 0: only read), shard (this one's number), birth (id of the mesh, the same in all its shards),
--   is_whole (note that this and all others it was compared with were found marked)
-- Returns {shards, shard, birth, age in ms, 1 if noted as whole, where it was moved to,
-- what it is being filled with}; shards is 0 where nothing is noted.
--#include _time.lua
local now = now_ms()
local function told(field) return redis.call('HGET', format, field) or '' end
if shards > 0 and told('birth') == '' then
  redis.call('HSET', format, 'shards', shards, 'shard', shard, 'birth', birth, 'since', digits(now))
end
if is_whole and told('birth') == birth then redis.call('HSET', format, 'whole', 1) end
local since = tonumber(told('since')) or now
return {
  tonumber(told('shards')) or 0, tonumber(told('shard')) or 0, told('birth'), math.max(0, now - since),
  tonumber(told('whole')) or 0, told('moved'), told('filling'),
}
