-- Stores an API key's record under the hash of the key, unless its name is taken or the key was revoked.
-- KEYS[1] api_keys (HASH)  KEYS[2] revoked keys (ZSET)  KEYS[3] manifests (HASH)
-- ARGV[1] name  ARGV[2] hash of the key  ARGV[3] record (JSON)
-- ARGV[4] 'new' (refuse a name that is taken), 'replace' (the keys with this name end) or
--   'first' (refuse when there is any key)
-- ARGV[5] now, ms: keys that expired before it have no name any more
-- ARGV[6] '1' when the key claims its own name as a source, so that it may be a service's
-- Returns 'stored', or why it was refused: 'taken', 'revoked', 'reserved'.
if redis.call('ZSCORE', KEYS[2], ARGV[2]) then return 'revoked' end
if ARGV[6] ~= '1' and redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return 'reserved' end
if ARGV[4] == 'first' and redis.call('HLEN', KEYS[1]) > 0 then return 'taken' end
local stored, ended = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #stored, 2 do
  local readable, record = pcall(cjson.decode, stored[i + 1])
  if readable and type(record) == 'table' and record.name == ARGV[1] then
    local expires = tonumber(record.expires_ms)
    if ARGV[4] ~= 'replace' and not (expires and expires <= tonumber(ARGV[5])) then return 'taken' end
    ended[#ended + 1] = stored[i]
  end
end
for _, hash in ipairs(ended) do redis.call('HDEL', KEYS[1], hash) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 'stored'
