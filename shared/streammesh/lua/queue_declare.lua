#!lua flags=allow-oom
-- Makes the streams of a queue and their consumer group, from the beginning, where they are missing.
-- KEYS streams (STREAM, each of the queue)
-- ARGS group, lifetime (of the streams in ms, renewed by each call, '' for ever),
--   reader (consumer who is going to read them, '' for none: servers before 7.2 would list him only once he was given
--   something, and who is not listed is not rung for, see `_queue.lua`)
-- Returns how many groups were made.
local made = 0
for _, stream in ipairs(streams) do
  local known = redis.pcall('XPENDING', stream, group)
  if known.err then
    local answer = redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if answer.err then return answer end
    made = made + 1
  end
  if reader ~= '' then redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, reader) end
  if lifetime ~= '' then redis.call('PEXPIRE', stream, lifetime) else redis.call('PERSIST', stream) end
end
return made
