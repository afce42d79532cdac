#!lua flags=allow-oom
-- Makes the streams of a queue and their consumer group, from the beginning, where they are missing.
-- KEYS[1] and on: streams of the queue (STREAM)
-- ARGV[1] group  ARGV[2] lifetime of the streams in ms, renewed by each call ('' for ever)
-- ARGV[3] consumer who is going to read them ('' for none); servers before 7.2 would list him only once he was given
--   something, and who is not listed is not rung for (`_queue.lua`)
-- Returns how many groups were made.
local made = 0
for _, stream in ipairs(KEYS) do
  local known = redis.pcall('XPENDING', stream, ARGV[1])
  if known.err then
    local answer = redis.pcall('XGROUP', 'CREATE', stream, ARGV[1], '0', 'MKSTREAM')
    if answer.err then return answer end
    made = made + 1
  end
  if ARGV[3] ~= '' then redis.pcall('XGROUP', 'CREATECONSUMER', stream, ARGV[1], ARGV[3]) end
  if ARGV[2] ~= '' then redis.call('PEXPIRE', stream, ARGV[2]) else redis.call('PERSIST', stream) end
end
return made
