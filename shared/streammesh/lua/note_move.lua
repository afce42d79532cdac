#!lua flags=allow-oom
-- Notes that a shard is being filled with a mesh that moves, that it is filled, or that it has moved itself.
-- KEYS format (HASH; as in mark_shard.lua, and filling)
-- ARGS step ('filling' | 'filled' | 'moved'), mesh (which fills it, or where it went), shards, shard, birth (of the mesh that
--   is filled)
-- Returns 1, or 0 where it is another mesh's already. Repeated it changes nothing.
--#include _time.lua
local function told(field) return redis.call('HGET', format, field) or '' end
if step == 'moved' then
  redis.call('HSET', format, 'moved', mesh)
elseif step == 'filled' then
  redis.call('HDEL', format, 'filling')
elseif told('birth') ~= '' and told('filling') ~= mesh then
  return 0
else
  redis.call('HSET', format, 'shards', shards, 'shard', shard, 'birth', birth, 'since', digits(now_ms()), 'filling', mesh)
end
return 1
