-- A database for each further shard; the first one's is made by the image. Run once, as the server's data begins.
CREATE DATABASE mesh_1;
CREATE DATABASE mesh_2;
