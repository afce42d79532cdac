-- Stores an API key's record under the hash of the key, unless its name is taken or the key was revoked.
-- KEYS api_keys (HASH), revoked (ZSET), manifests (HASH), webhooks_version (STRING, another one: what a key may be told
--   counts for the webhooks of its name from this moment on)
-- ARGS name, hash (of the key), record (JSON),
--   how ('new': refuse a name that is taken, 'replace': the keys with this name end, 'first': refuse when there is
--   any key), now (ms: keys that expired before it have no name any more),
--   claims_its_name (as a source, so that it may be a service's)
-- Returns 'stored', or why it was refused: 'taken', 'revoked', 'reserved'.
--#include _version.lua
if redis.call('ZSCORE', revoked, hash) then return 'revoked' end
if not claims_its_name and redis.call('HEXISTS', manifests, name) == 1 then return 'reserved' end
if how == 'first' and redis.call('HLEN', api_keys) > 0 then return 'taken' end
local stored, ended = redis.call('HGETALL', api_keys), {}
for i = 1, #stored, 2 do
  local readable, other = pcall(cjson.decode, stored[i + 1])
  if readable and type(other) == 'table' and other.name == name then
    local expires = tonumber(other.expires_ms)
    if how ~= 'replace' and not (expires and expires <= now) then return 'taken' end
    ended[#ended + 1] = stored[i]
  end
end
for _, old in ipairs(ended) do redis.call('HDEL', api_keys, old) end
redis.call('HSET', api_keys, hash, record)
renew(webhooks_version)
return 'stored'
