-- Writes to a key that many tasks share. Whatever of another type lies there is set aside (as by set_aside.lua): the script
-- has begun to write, and must come to its end.
local function write(command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    local aside = string.gsub(key, '}:', '}:set-aside:', 1)
    if redis.pcall('RENAME', key, aside).err then  -- a worker that may not: whoever may moves it at its next write
      redis.log(redis.LOG_WARNING, key .. ' has the wrong type, and may not be moved by who wrote to it')
      return command == 'XADD' and '0-0' or 0
    end
    redis.call('PEXPIRE', aside, 604800000)
    redis.log(redis.LOG_WARNING, key .. ' had the wrong type; it is kept as ' .. aside)
  elseif command == 'HINCRBY' then  -- no number stands there, or one at its end: it is counted from 0 again
    redis.log(redis.LOG_WARNING, key .. ' held what is no number: ' .. answer.err)
    redis.call('HDEL', key, (...))
  end
  return redis.call(command, key, ...)
end
