// Gives the precompiled header of this folder a target to belong to.
