-- Stores an API key's record under the hash of the key, unless its name is taken.
-- KEYS[1] api_keys (HASH)
-- ARGV[1] name  ARGV[2] hash of the key  ARGV[3] record (JSON)
-- ARGV[4] 'new' (refuse a name that is taken), 'replace' (the keys with this name end) or
--   'first' (refuse when there is any key)
-- Returns 1 if it was stored, 0 if it was refused.
if ARGV[4] == 'first' and redis.call('HLEN', KEYS[1]) > 0 then return 0 end
local stored, ended = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #stored, 2 do
  local readable, record = pcall(cjson.decode, stored[i + 1])
  if readable and record.name == ARGV[1] then
    if ARGV[4] ~= 'replace' then return 0 end
    ended[#ended + 1] = stored[i]
  end
end
for _, hash in ipairs(ended) do redis.call('HDEL', KEYS[1], hash) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
