#!lua flags=allow-oom
-- Reads new entries for one consumer from several streams, in the order of the keys, without waiting.
-- KEYS[1] and on: streams, the most important first (STREAM)
-- ARGV[1] group  ARGV[2] consumer  ARGV[3] at most this many entries in all
-- Returns {{stream, {{id, fields}, ...}}, ...} as XREADGROUP does; its error when a group is missing.
local answer, left = {}, tonumber(ARGV[3])
for _, stream in ipairs(KEYS) do
  if left <= 0 then break end
  local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', stream, '>')
  if read then
    answer[#answer + 1] = read[1]
    left = left - #read[1][2]
  end
end
return answer
